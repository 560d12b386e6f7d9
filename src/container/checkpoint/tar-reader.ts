import { type FileHandle, open } from 'node:fs/promises'
import { CodedError } from '../../core/errors.ts'

/** A member of an archive, as its header has it; its content lies at `offset` in the archive. */
export interface TarMember {
  /** Relative, without `.` and `..`; `''` is the top directory. Bytes, each as one character. */
  readonly path: string
  readonly type: 'file' | 'directory' | 'symlink' | 'hardlink' | 'character' | 'block' | 'fifo'
  readonly sizeBytes: number
  readonly offset: number
  /** Where a link points, unchanged. */
  readonly target: string
  /** Of a device. */
  readonly major: number
  readonly minor: number
}

export interface TarLimits {
  readonly maxMembers: number
  /** Of all contents together. */
  readonly maxBytes: number
}

const BLOCK = 512
const WINDOW_BYTES = 64 * 1024
const MAX_EXTENDED_BYTES = 1024 * 1024
const MAX_PATH_BYTES = 4096
const MAX_ALL_PATHS_BYTES = 64 * 1024 * 1024
/** What tar fills a last record up to. */
const MAX_PADDING_BYTES = 20 * BLOCK
const TYPES: Readonly<Record<string, TarMember['type']>> = {
  '0': 'file',
  '\0': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
}

/**
 * The members of a tar archive (POSIX.1-2001: ustar with pax headers), whose every byte may be a stranger's. Nothing is
 * unpacked. What is not understood is refused: another reader might take it for something else.
 *
 * @throws CodedError `DataLoss` for what is no such archive, or has names that lead elsewhere; `ResourceExhausted` for more
 * than the limits.
 */
export async function* readTar(path: string, limits: TarLimits): AsyncGenerator<TarMember> {
  await using file = await open(path, 'r')
  const source = new Window(file, (await file.stat()).size)
  let members = 0
  let bytes = 0
  let pathBytes = 0
  let extended = new Map<string, string>()
  for (let at = 0; ; ) {
    const header = await source.read(at, BLOCK)
    if (isZero(header)) {
      if (extended.size > 0) throw broken(at, 'an extended header without a member')
      await checkEnd(source, at)
      return
    }
    const { type, ...found } = parseHeader(header, at)
    at += BLOCK
    if (type === 'x') {
      if (extended.size > 0 || found.sizeBytes > MAX_EXTENDED_BYTES)
        throw broken(at, 'an extended header too many or too large')
      extended = parseExtended(await source.read(at, found.sizeBytes), at)
      at += padded(found.sizeBytes)
      continue
    }
    const member = { ...withExtended(found, extended, at), type: known(type, at), offset: at }
    extended = new Map()
    if (member.type !== 'file' && member.sizeBytes !== 0) throw broken(at, `a ${member.type} with content`)
    const next = at + padded(member.sizeBytes)
    if (next > source.sizeBytes) throw broken(at, 'it is cut off')
    at = next
    members += 1
    bytes += member.sizeBytes
    pathBytes += member.path.length
    if (members > limits.maxMembers || bytes > limits.maxBytes || pathBytes > MAX_ALL_PATHS_BYTES) {
      throw new CodedError(
        'ResourceExhausted',
        `read archive: more than ${limits.maxMembers} members or ${limits.maxBytes} bytes`,
      )
    }
    yield member
  }
}

/** A piece of a file, read a little more at a time than is asked for. */
class Window {
  readonly sizeBytes: number
  readonly #file: FileHandle
  #start = 0
  #bytes: Buffer = Buffer.alloc(0)

  constructor(file: FileHandle, sizeBytes: number) {
    this.#file = file
    this.sizeBytes = sizeBytes
  }

  async read(at: number, length: number): Promise<Buffer> {
    if (at + length > this.sizeBytes) throw broken(at, 'it is cut off')
    if (at < this.#start || at + length > this.#start + this.#bytes.length) {
      const wanted = Math.min(Math.max(length, WINDOW_BYTES), this.sizeBytes - at)
      const { bytesRead } = await this.#file.read((this.#bytes = Buffer.alloc(wanted)), 0, wanted, at)
      this.#start = at
      if (bytesRead < length) throw broken(at, 'it is cut off')
    }
    return this.#bytes.subarray(at - this.#start, at - this.#start + length)
  }
}

type Header = Pick<TarMember, 'path' | 'sizeBytes' | 'target' | 'major' | 'minor'>

function parseHeader(block: Buffer, at: number): Header & { type: string } {
  if (block.toString('latin1', 257, 263) !== 'ustar\0') throw broken(at, 'a header is not one of ustar')
  const sum = block.reduce((total, byte, index) => total + (index >= 148 && index < 156 ? 32 : byte), 0)
  if (octal(block, 148, 8, at) !== sum) throw broken(at, 'the checksum of a header does not match')
  const prefix = text(block, 345, 155)
  const isDevice = block[156] === 0x33 || block[156] === 0x34
  return {
    path: prefix === '' ? text(block, 0, 100) : `${prefix}/${text(block, 0, 100)}`,
    sizeBytes: octal(block, 124, 12, at),
    type: block.toString('latin1', 156, 157),
    target: text(block, 157, 100),
    major: isDevice ? octal(block, 329, 8, at) : 0,
    minor: isDevice ? octal(block, 337, 8, at) : 0,
  }
}

/** `LENGTH KEY=VALUE\n`, any number of times. */
function parseExtended(bytes: Buffer, at: number): Map<string, string> {
  const records = new Map<string, string>()
  for (let from = 0; from < bytes.length; ) {
    const space = bytes.indexOf(0x20, from)
    const digits = space < 0 ? '' : bytes.toString('latin1', from, space)
    const end = from + Number(digits)
    const equals = bytes.indexOf(0x3d, space)
    const isRecord = /^[1-9]\d{0,6}$/.test(digits) && end <= bytes.length && equals > space && equals < end
    if (!isRecord || bytes[end - 1] !== 0x0a) throw broken(at, 'an extended header is malformed')
    const key = bytes.toString('latin1', space + 1, equals)
    if (key.startsWith('GNU.sparse') || records.has(key)) throw broken(at, `an extended header holds ${key}`)
    records.set(key, bytes.toString('latin1', equals + 1, end - 1))
    from = end
  }
  return records
}

function withExtended(header: Header, extended: ReadonlyMap<string, string>, at: number): Header {
  const size = extended.get('size')
  if (size !== undefined && !/^\d{1,15}$/.test(size)) throw broken(at, `a size of ${size}`)
  return {
    ...header,
    path: safePath(extended.get('path') ?? header.path, at),
    target: extended.get('linkpath') ?? header.target,
    sizeBytes: size === undefined ? header.sizeBytes : Number(size),
  }
}

/** @throws CodedError for a path that could lead out of the directory that it is unpacked in. */
function safePath(path: string, at: number): string {
  const parts = path.split('/')
  const isUnsafe =
    path === '' || path.includes('\0') || path.length > MAX_PATH_BYTES || path.startsWith('/') || parts.includes('..')
  if (isUnsafe) throw broken(at, `a path leads elsewhere: ${JSON.stringify(path.slice(0, 200))}`)
  return parts.filter((part) => part !== '' && part !== '.').join('/')
}

function known(type: string, at: number): TarMember['type'] {
  const found = TYPES[type]
  if (found === undefined) throw broken(at, `a member of type ${JSON.stringify(type)}`)
  return found
}

/** Two blocks of zeros end it, and what follows is padding. */
async function checkEnd(source: Window, at: number): Promise<void> {
  const left = source.sizeBytes - at
  if (left < 2 * BLOCK || left > 2 * BLOCK + MAX_PADDING_BYTES) throw broken(at, 'it does not end where it should')
  if (!isZero(await source.read(at, left))) throw broken(at, 'something follows its end')
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0)
}

function text(block: Buffer, from: number, length: number): string {
  const field = block.subarray(from, from + length)
  const end = field.indexOf(0)
  return field.toString('latin1', 0, end < 0 ? length : end)
}

function octal(block: Buffer, from: number, length: number, at: number): number {
  const digits = /^ *([0-7]+)[ \0]*$/.exec(block.toString('latin1', from, from + length))?.[1]
  if (digits === undefined) throw broken(at, 'a number in a header is none')
  return Number.parseInt(digits, 8)
}

function padded(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK
}

function broken(at: number, why: string): CodedError {
  return new CodedError('DataLoss', `read archive, at byte ${at}: ${why}`)
}
