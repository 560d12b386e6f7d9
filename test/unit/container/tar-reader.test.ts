import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkRootfsDiff } from '../../../src/container/checkpoint/rootfs-diff.ts'
import { readTar, type TarMember } from '../../../src/container/checkpoint/tar-reader.ts'
import { CodedError } from '../../../src/core/errors.ts'
import { BROKEN_ARCHIVES, TREACHEROUS_TREES } from '../../support/hostile-archives.ts'
import { tar, type TarEntry } from '../../support/tar.ts'

const LIMITS = { maxMembers: 100, maxBytes: 100_000 }
let directory = ''

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sandboxerd-tar-'))
})
afterAll(async () => rm(directory, { recursive: true }))

let files = 0
async function written(bytes: Buffer): Promise<string> {
  const path = join(directory, `${files++}.tar`)
  await writeFile(path, bytes)
  return path
}

async function read(bytes: Buffer, limits = LIMITS): Promise<TarMember[]> {
  const members: TarMember[] = []
  for await (const member of readTar(await written(bytes), limits)) members.push(member)
  return members
}

describe('readTar', () => {
  it('tells every member and where its content is', async () => {
    const long = `${'d/'.repeat(80)}f`
    const bytes = tar([
      { path: './', type: 'directory' },
      { path: './a', content: 'one' },
      { path: long, content: 'two' },
      { path: 's', type: 'symlink', target: '/etc/passwd' },
      { path: 'w', type: 'character', device: [0, 0], xattrs: { 'trusted.overlay.opaque': 'y' } },
      { path: 'b', type: 'block', device: [8, 1] },
    ])
    const members = await read(bytes)
    expect(members.map(({ path, type }) => [path, type])).toEqual([
      ['', 'directory'],
      ['a', 'file'],
      [long, 'file'],
      ['s', 'symlink'],
      ['w', 'character'],
      ['b', 'block'],
    ])
    const contents = members.map(({ offset, sizeBytes }) => bytes.toString('latin1', offset, offset + sizeBytes))
    expect(contents).toEqual(['', 'one', 'two', '', '', ''])
    expect(members[3]?.target).toBe('/etc/passwd')
    expect(members[5]).toMatchObject({ major: 8, minor: 1 })
  })

  it.each(BROKEN_ARCHIVES.map(({ why, bytes }) => [why, bytes] as const))('refuses %s', async (_why, bytes) => {
    const error: unknown = await read(bytes).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(CodedError)
    expect(error).toMatchObject({ code: 'DataLoss' })
  })

  it('reads no more than it may', async () => {
    const many = tar(Array.from({ length: 101 }, (_, at) => ({ path: `f${at}` })))
    await expect(read(many)).rejects.toMatchObject({ code: 'ResourceExhausted' })
    const large = tar([
      { path: 'a', content: 'x'.repeat(60_000) },
      { path: 'b', content: 'x'.repeat(60_000) },
    ])
    await expect(read(large)).rejects.toMatchObject({ code: 'ResourceExhausted' })
  })

  it('never does anything but read or refuse, and no path ever leads elsewhere', async () => {
    const base = tar([
      { path: 'a/b', content: 'x' },
      { path: `${'y/'.repeat(90)}z`, content: 'y' },
      { path: 'l', type: 'symlink', target: 'a' },
    ])
    const flips = fc.array(fc.tuple(fc.nat({ max: base.length - 1 }), fc.nat({ max: 255 })), {
      minLength: 1,
      maxLength: 6,
    })
    await fc.assert(
      fc.asyncProperty(flips, fc.boolean(), async (changes, mendsChecksums) => {
        const bytes = Buffer.from(base)
        for (const [at, value] of changes) bytes.writeUInt8(value, at)
        if (mendsChecksums) mend(bytes)
        try {
          for (const { path, offset, sizeBytes } of await read(bytes)) {
            expect(path.startsWith('/') || path.split('/').includes('..') || path.includes('\0')).toBe(false)
            expect(offset + sizeBytes).toBeLessThanOrEqual(bytes.length)
          }
        } catch (error) {
          expect(error).toBeInstanceOf(CodedError)
        }
      }),
      { numRuns: 300 },
    )
  })
})

describe('checkRootfsDiff', () => {
  const check = async (entries: readonly TarEntry[]): Promise<void> =>
    checkRootfsDiff(await written(tar(entries)), LIMITS)

  it('takes a tree with links, whiteouts and FIFOs', async () => {
    await check([
      { path: './', type: 'directory' },
      { path: './etc', type: 'directory' },
      { path: './etc/f', content: 'x' },
      { path: './etc/h', type: 'hardlink', target: './etc/f' },
      { path: './etc/s', type: 'symlink', target: '/outside/../anywhere' },
      { path: './gone', type: 'character', device: [0, 0] },
      { path: './fifo', type: 'fifo' },
    ])
  })

  it.each(TREACHEROUS_TREES)('refuses %s', async (_why, entries) => {
    const error: unknown = await check(entries).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(CodedError)
  })
})

/** Makes the checksum of each block right that looks like a header. */
function mend(bytes: Buffer): void {
  for (let at = 0; at + 512 <= bytes.length; at += 512) {
    const block = bytes.subarray(at, at + 512)
    if (block.toString('latin1', 257, 262) !== 'ustar') continue
    block.fill(' ', 148, 156)
    const sum = block.reduce((total, byte) => total + byte, 0)
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  }
}
