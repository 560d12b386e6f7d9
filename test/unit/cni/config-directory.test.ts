import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { configFingerprint, loadConfigs } from '../../../src/cni/config-directory.ts'
import { runOk } from '../../../src/host/programs/run.ts'
import { containing } from '../../support/cni-plugins/containing.ts'

const network = (name: string, more: object = {}) =>
  JSON.stringify({ cniVersion: '1.0.0', name, plugins: [{ type: 'bridge' }], ...more })

describe('loadConfigs', () => {
  let dir: string
  const write = (file: string, text: string) => writeFile(join(dir, file), text)

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'sbx-cni-'))
  })
  afterEach(() => rm(dir, { recursive: true }))

  it('reads conf, conflist and json sorted by name and nothing else', async () => {
    await write('30-c.conflist', network('c'))
    await write('10-a.json', network('a'))
    await write('20-b.conf', JSON.stringify({ cniVersion: '1.0.0', name: 'b', type: 'ptp' }))
    await write('05-x.txt', network('x'))
    await write('isulacni-native.conflist', network('native'))
    const { configs, skipped } = await loadConfigs(dir)
    expect(configs.map((config) => config.name)).toEqual(['a', 'b', 'c'])
    expect(skipped).toEqual([])
  })

  it('skips what it cannot use and says why', async () => {
    await write('10-good.conflist', network('good'))
    await write('20-broken.conflist', '{')
    await write('30-twice.conflist', network('good'))
    await write('40-unnamed.conf', '{"type":"bridge","cniVersion":"1.0.0"}')
    await write('50-empty.conflist', '{"name":"empty","plugins":[]}')
    await mkdir(join(dir, '60-folder.conf'))
    await runOk('/usr/bin/mkfifo', [join(dir, '70-fifo.conf')], { timeoutMs: 5_000 })
    await write('80-huge.conf', ' '.repeat(1024 * 1024 + 1))
    const { configs, skipped } = await loadConfigs(dir)
    expect(configs.map((config) => config.name)).toEqual(['good'])
    expect(skipped).toEqual([
      { file: '20-broken.conflist', why: containing('not JSON') },
      { file: '30-twice.conflist', why: 'network good is in an earlier file' },
      { file: '40-unnamed.conf', why: containing('name') },
      { file: '50-empty.conflist', why: 'plugins: there are none' },
      { file: '60-folder.conf', why: 'not a file' },
      { file: '70-fifo.conf', why: 'not a file' },
      { file: '80-huge.conf', why: containing('larger than') },
    ])
  })

  it('appends the plugins of the folder with the name of the network', async () => {
    await write('10-a.conflist', network('a'))
    await write('20-b.conflist', network('b', { loadOnlyInlinedPlugins: true }))
    await write('30-c.conflist', JSON.stringify({ cniVersion: '1.0.0', name: 'c' }))
    for (const name of ['a', 'b', 'c']) {
      await mkdir(join(dir, name))
      await writeFile(join(dir, name, '10-more.conf'), '{"type":"portmap"}')
    }
    const { configs } = await loadConfigs(dir)
    expect(configs.map((config) => config.plugins.map((plugin) => plugin.type))).toEqual([
      ['bridge', 'portmap'],
      ['bridge'],
      ['portmap'],
    ])
    await writeFile(join(dir, 'a', '20-bad.conf'), '{}')
    expect((await loadConfigs(dir)).skipped).toEqual([{ file: '10-a.conflist', why: containing('20-bad.conf') }])
  })

  it('uses at most 1024 files', async () => {
    await Promise.all(
      Array.from({ length: 1025 }, (_, i) => write(`${String(i).padStart(4, '0')}.conf`, network(`n${i}`))),
    )
    const { configs, skipped } = await loadConfigs(dir)
    expect(configs).toHaveLength(1024)
    expect(skipped).toEqual([{ file: '1024.conf', why: 'there are more than 1024 files' }])
  })

  it('finds nothing in a directory that does not exist', async () => {
    expect(await loadConfigs(join(dir, 'none'))).toEqual({ configs: [], skipped: [] })
    await write('file', '')
    expect(await loadConfigs(join(dir, 'file'))).toEqual({ configs: [], skipped: [] })
  })

  it('has a fingerprint that follows every change', async () => {
    const seen = [await configFingerprint(join(dir, 'none')), await configFingerprint(dir)]
    const note = async (): Promise<void> => {
      seen.push(await configFingerprint(dir))
    }
    await write('10-a.conflist', network('a'))
    await note()
    await write('10-a.conflist', network('b'))
    await utimes(join(dir, '10-a.conflist'), 1, 1)
    await note()
    await mkdir(join(dir, 'b'))
    await note()
    await writeFile(join(dir, 'b', '10-more.conf'), '{"type":"portmap"}')
    await note()
    await rm(join(dir, '10-a.conflist'))
    await note()
    expect(new Set(seen).size).toBe(seen.length)
    expect(await configFingerprint(dir)).toBe(seen.at(-1))
  })
})
