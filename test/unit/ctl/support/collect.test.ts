import { lstat, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CodedError } from '../../../../src/core/errors.ts'
import { collectParts } from '../../../../src/ctl/support/collect.ts'
import { tarGz } from '../../../../src/ctl/support/tar.ts'
import { writeBundle } from '../../../../src/ctl/support/write-bundle.ts'
import { runOk } from '../../../../src/host/programs/run.ts'

const LIMITS = { timeoutMs: 200, maxBytes: 100 }
const never = new AbortController().signal
/** Listens to nobody. */
const hang = (): Promise<never> => new Promise(() => {})

describe('collectParts', () => {
  it('collects texts and values without their secrets', async () => {
    const { files, reports } = await collectParts(
      [
        { name: 'a.txt', collect: async () => 'token=hunter2' },
        { name: 'a.json', collect: async () => ({ password: 'hunter2' }) },
      ],
      LIMITS,
      never,
    )
    expect(files.map(({ path, content }) => [path, content.toString()])).toEqual([
      ['a.txt', 'token=[redacted]\n'],
      ['a.json', '{\n  "password": "[redacted]"\n}\n'],
    ])
    expect(reports).toMatchObject([
      { name: 'a.txt', problem: null },
      { name: 'a.json', problem: null },
    ])
  })

  it('leaves a note of a part that fails, hangs, or is too long', async () => {
    const { files, reports } = await collectParts(
      [
        {
          name: 'fails.txt',
          collect: async () => Promise.reject(new CodedError('Internal', 'password=hunter2 is bad')),
        },
        { name: 'hangs.json', collect: hang },
        { name: 'long.txt', collect: async () => `${'x'.repeat(100)}the end` },
      ],
      LIMITS,
      never,
    )
    expect(files.map(({ content }) => content.toString())).toEqual([
      'could not be collected: password=[redacted] is bad\n',
      '{"problem":"collect hangs.json: no end after 200 ms"}\n',
      `${'x'.repeat(93)}the end\n`,
    ])
    for (const { problem } of reports) expect(problem).not.toBeNull()
  })

  it('ends with the signal', async () => {
    const leaving = new AbortController()
    const collecting = collectParts([{ name: 'x', collect: hang }], { timeoutMs: 10_000, maxBytes: 1 }, leaving.signal)
    leaving.abort(new CodedError('Canceled', 'enough'))
    await expect(collecting).rejects.toThrow('enough')
  })
})

describe('the archive', () => {
  let dir: string
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'sbx-bundle-'))
  })
  afterEach(async () => await rm(dir, { recursive: true, force: true }))

  it('is one that tar reads', async () => {
    const files = [0, 1, 511, 512, 513].map((size) => ({ path: `d/${size}`, content: Buffer.alloc(size, 'x') }))
    const path = join(dir, 'a.tar.gz')
    await writeBundle(path, await tarGz(files, Date.UTC(2026, 0, 2, 3, 4, 5)))
    expect((await lstat(path)).mode & 0o777).toBe(0o600)
    await runOk('/usr/bin/tar', ['-xzf', path, '-C', dir], { timeoutMs: 20_000 })
    for (const { path: name, content } of files) expect(await readFile(join(dir, name))).toEqual(content)
    expect((await lstat(join(dir, 'd/1'))).mtime.toISOString()).toBe('2026-01-02T03:04:05.000Z')
    await expect(tarGz([{ path: 'x'.repeat(101), content: Buffer.alloc(0) }], 0)).rejects.toThrow('too long')
  })

  it('overwrites nothing and follows no link', async () => {
    await writeFile(join(dir, 'there'), 'mine')
    await symlink(join(dir, 'elsewhere'), join(dir, 'link'))
    for (const name of ['there', 'link']) {
      await expect(writeBundle(join(dir, name), Buffer.from('x'))).rejects.toMatchObject({ code: 'AlreadyExists' })
    }
    expect(await readFile(join(dir, 'there'), 'utf8')).toBe('mine')
    await expect(lstat(join(dir, 'elsewhere'))).rejects.toThrow('ENOENT')
  })
})
