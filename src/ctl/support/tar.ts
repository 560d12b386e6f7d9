import { promisify } from 'node:util'
import { gzip } from 'node:zlib'

const BLOCK = 512
const MAX_NAME = 100

export interface TarFile {
  /** At most 100 bytes. */
  readonly path: string
  readonly content: Buffer
}

/** An archive (ustar, POSIX.1-1988) of these files, gzipped: all of root, mode 0600. */
export async function tarGz(files: readonly TarFile[], mtimeMs: number): Promise<Buffer> {
  const parts = files.flatMap(({ path, content }) => {
    const padding = Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)
    return [header(path, content.length, mtimeMs), content, padding]
  })
  return promisify(gzip)(Buffer.concat([...parts, Buffer.alloc(2 * BLOCK)]))
}

function header(path: string, size: number, mtimeMs: number): Buffer {
  if (Buffer.byteLength(path) > MAX_NAME) throw new RangeError(`${path}: too long for an archive`)
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, at: number, digits: number): void => {
    block.write(value.toString(8).padStart(digits, '0'), at)
  }
  block.write(path, 0)
  octal(0o600, 100, 7)
  octal(0, 108, 7)
  octal(0, 116, 7)
  octal(size, 124, 11)
  octal(Math.floor(mtimeMs / 1000), 136, 11)
  // The checksum is made as if it were blanks itself.
  block.fill(' ', 148, 156)
  block.write('0', 156)
  block.write('ustar\u000000', 257)
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    6,
  )
  block.write('\0 ', 154)
  return block
}
