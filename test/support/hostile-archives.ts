import { tar, type TarEntry } from './tar.ts'

/** An archive that must not be unpacked, and why. */
export interface HostileArchive {
  readonly why: string
  readonly bytes: Buffer
}

const FILE: TarEntry = { path: 'a', content: 'a' }

/** What no reader of ours may take, wherever it comes from. */
export const BROKEN_ARCHIVES: readonly HostileArchive[] = [
  ...['/etc/cron.d/x', '../x', 'a/../../x', 'a/..', '..', '//x', `${'d/'.repeat(3000)}x`].map((path) => ({
    why: `the path ${path.slice(0, 20)}`,
    bytes: tar([{ path, content: 'x' }]),
  })),
  { why: 'a path that only the extended header has', bytes: tar([{ path: `../${'x'.repeat(120)}`, content: 'x' }]) },
  { why: 'a path with a NUL', bytes: withPax({ path: 'a\0/../../b' }) },
  { why: 'a size that is no number', bytes: withPax({ size: '-1' }) },
  { why: 'a size beyond the end', bytes: withPax({ size: '999999999999' }) },
  { why: 'a sparse file', bytes: withPax({ 'GNU.sparse.realsize': '99999999999999' }) },
  { why: 'two of one key', bytes: raw([paxHeader(Buffer.from('9 path=a\n9 path=b\n')), tar([FILE])]) },
  ...['99 path=x\n', 'path=x\n', '0 path=x\n', '7 pathx\n', '12 path=abcdefgh', ' 9 path=a\n', '1e1 path=a\n'].map(
    (record) => ({
      why: `the record ${JSON.stringify(record)}`,
      bytes: raw([paxHeader(Buffer.from(record)), tar([FILE])]),
    }),
  ),
  {
    why: 'an extended header without a member',
    bytes: raw([paxHeader(Buffer.from('9 path=a\n')), Buffer.alloc(1024)]),
  },
  {
    why: 'two extended headers',
    bytes: raw([paxHeader(Buffer.from('9 path=a\n')), paxHeader(Buffer.from('9 path=b\n')), tar([FILE])]),
  },
  ...['L', 'K', 'g', 'S', 'D', 'V', '7', 'X', 'x'.toUpperCase(), '\u00ff'].map((type) => ({
    why: `the type ${JSON.stringify(type)}`,
    bytes: changed(tar([FILE]), (block) => block.write(type, 156, 'latin1')),
  })),
  { why: 'a directory with content', bytes: changed(tar([FILE]), (block) => block.write('5', 156)) },
  { why: 'a link with content', bytes: changed(tar([FILE]), (block) => block.write('2', 156)) },
  { why: 'a wrong checksum', bytes: corrupted(tar([FILE]), 150) },
  { why: 'a name changed after the checksum', bytes: corrupted(tar([FILE]), 0) },
  { why: 'another magic', bytes: changed(tar([FILE]), (block) => block.write('ustar  ', 257)) },
  { why: 'a size in base 256', bytes: changed(tar([FILE]), (block) => block.writeUInt8(0x80, 124)) },
  { why: 'no end', bytes: tar([FILE]).subarray(0, 1024) },
  { why: 'an end of one block', bytes: tar([FILE]).subarray(0, 1536) },
  { why: 'a member that is cut off', bytes: tar([{ path: 'a', content: 'x'.repeat(5000) }]).subarray(0, 2048) },
  { why: 'something behind the end', bytes: raw([tar([FILE]), tar([FILE])]) },
  { why: 'much behind the end', bytes: raw([tar([FILE]), Buffer.alloc(64 * 1024)]) },
  { why: 'nothing at all', bytes: Buffer.alloc(0) },
  { why: 'no archive', bytes: Buffer.from('#!/bin/sh\n'.repeat(200)) },
]

/** Archives in which every header is right, and which unpack to something that leads elsewhere. */
export const TREACHEROUS_TREES: readonly (readonly [why: string, entries: readonly TarEntry[]])[] = [
  [
    'a file below a link',
    [
      { path: 'd', type: 'symlink', target: '/etc' },
      { path: 'd/passwd', content: 'x' },
    ],
  ],
  [
    'a directory below a link',
    [
      { path: 'd', type: 'symlink', target: '..' },
      { path: 'd/e', type: 'directory' },
    ],
  ],
  [
    'a link that replaces a directory',
    [
      { path: 'd', type: 'directory' },
      { path: 'd', type: 'symlink', target: '/' },
    ],
  ],
  [
    'a file that replaces a link',
    [
      { path: 'd', type: 'symlink', target: '/etc/passwd' },
      { path: './d', content: 'x' },
    ],
  ],
  ['a hard link out of it', [{ path: 'h', type: 'hardlink', target: '/etc/shadow' }]],
  ['a hard link up', [{ path: 'h', type: 'hardlink', target: '../../shadow' }]],
  [
    'a hard link to what comes later',
    [
      { path: 'h', type: 'hardlink', target: 'f' },
      { path: 'f', content: 'x' },
    ],
  ],
  [
    'a hard link below a link',
    [
      { path: 'd', type: 'symlink', target: '/etc' },
      { path: 'f', content: 'x' },
      { path: 'd/h', type: 'hardlink', target: 'f' },
    ],
  ],
  ['a disk', [{ path: 'sda', type: 'block', device: [8, 0] }]],
  ['the memory', [{ path: 'mem', type: 'character', device: [1, 1] }]],
  [
    'a file below a file',
    [
      { path: 'f', content: 'x' },
      { path: 'f/g', content: 'x' },
    ],
  ],
]

function withPax(records: Readonly<Record<string, string>>): Buffer {
  const lines = Object.entries(records).map(([key, value]) => {
    const rest = ` ${key}=${value}\n`
    let length = rest.length + 1
    while (String(length).length + rest.length !== length) length = String(length).length + rest.length
    return `${length}${rest}`
  })
  return raw([paxHeader(Buffer.from(lines.join(''))), tar([FILE])])
}

/** An extended header with this content. */
function paxHeader(content: Buffer): Buffer {
  return changed(tar([{ path: 'pax', content }]), (block) => block.write('x', 156)).subarray(0, -1024)
}

function raw(parts: readonly Buffer[]): Buffer {
  return Buffer.concat(parts)
}

/** With its first header changed, and the checksum made right again. */
function changed(archive: Buffer, change: (block: Buffer) => unknown): Buffer {
  const bytes = Buffer.from(archive)
  const block = bytes.subarray(0, 512)
  change(block)
  block.fill(' ', 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return bytes
}

function corrupted(archive: Buffer, at: number): Buffer {
  const bytes = Buffer.from(archive)
  bytes.writeUInt8((bytes.readUInt8(at) + 1) % 256, at)
  return bytes
}
