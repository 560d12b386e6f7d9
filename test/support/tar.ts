/** One member of a tar archive, as an attacker could write it, too: nothing is checked. */
export interface TarEntry {
  readonly path: string
  readonly type?: 'file' | 'directory' | 'symlink' | 'hardlink' | 'fifo' | 'character' | 'block'
  readonly content?: string | Buffer
  /** Where a link points. */
  readonly target?: string
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  /** Major and minor number. */
  readonly device?: readonly [number, number]
  /** Extended attributes, by their names (`user.note`). */
  readonly xattrs?: Readonly<Record<string, string | Buffer>>
}

const BLOCK = 512
const TYPES = { file: '0', hardlink: '1', symlink: '2', character: '3', block: '4', directory: '5', fifo: '6' } as const

/** An archive in the pax format (POSIX.1-2001), with every time at 0, so that the same entries make the same bytes. */
export function tar(entries: readonly TarEntry[]): Buffer {
  return Buffer.concat([...entries.flatMap(member), Buffer.alloc(2 * BLOCK)])
}

function member(entry: TarEntry): Buffer[] {
  const content = Buffer.from(entry.content ?? '')
  const type = TYPES[entry.type ?? 'file']
  const records: [string, string | Buffer][] = Object.entries(entry.xattrs ?? {}).map(([name, value]) => [
    `SCHILY.xattr.${name}`,
    value,
  ])
  if (Buffer.byteLength(entry.path) > 100) records.push(['path', entry.path])
  if (Buffer.byteLength(entry.target ?? '') > 100) records.push(['linkpath', entry.target ?? ''])
  const extended = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)))
  return [
    ...(extended.length > 0 ? [header({ path: 'pax' }, 'x', extended.length), padded(extended)] : []),
    header(entry, type, content.length),
    padded(content),
  ]
}

/** `LENGTH KEY=VALUE\n`, where the length counts its own digits. */
function paxRecord(key: string, value: string | Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')])
  let length = rest.length + 1
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length
  return Buffer.concat([Buffer.from(String(length)), rest])
}

function header(entry: TarEntry, type: string, size: number): Buffer {
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, at: number, width: number): void => {
    block.write(value.toString(8).padStart(width - 1, '0'), at, width - 1, 'ascii')
  }
  block.write(entry.path, 0, 100)
  octal(entry.mode ?? (entry.type === 'directory' ? 0o755 : 0o644), 100, 8)
  octal(entry.uid ?? 0, 108, 8)
  octal(entry.gid ?? 0, 116, 8)
  octal(size, 124, 12)
  octal(0, 136, 12)
  block.write(type, 156)
  block.write(entry.target ?? '', 157, 100)
  block.write('ustar\u000000', 257)
  octal(entry.device?.[0] ?? 0, 329, 8)
  octal(entry.device?.[1] ?? 0, 337, 8)
  block.fill(' ', 148, 156)
  block.write(
    `${[...block]
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\u0000 `,
    148,
  )
  return block
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)])
}
