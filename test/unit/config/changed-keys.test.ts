import { describe, expect, it } from 'vitest'
import { changedKeys, isReloaded, keyValues } from '../../../src/config/changed-keys.ts'
import { parseSettings } from '../../../src/config/parse.ts'

const of = (toml: string) => keyValues(parseSettings(toml, 'test').settings)

describe('changedKeys', () => {
  it('names keys as the file has them, with tables of tables and those that are gone', () => {
    const before = of(
      '[log.levels]\ncni = "debug"\n[cni]\nbin_dirs = ["/a"]\n[sandboxers."a.b"]\naddress = "/run/a.sock"',
    )
    const after = of('[log]\nlevel = "warn"\n[cni]\nbin_dirs = ["/a", "/b"]')
    expect(changedKeys(before, after)).toEqual([
      'cni.bin_dirs',
      'log.level',
      'log.levels.cni',
      'sandboxers.a.b.address',
      'sandboxers.a.b.network_first',
      'sandboxers.a.b.unreachable_grace',
    ])
    expect(changedKeys(after, after)).toEqual([])
  })
})

describe('isReloaded', () => {
  const before = of('[sandboxers."a.b"]\naddress = "/run/a.sock"')

  it.each(['log.level', 'log.levels.cni', 'runtimes.crun.runtime', 'timeouts.drain', 'sandboxers.new.address'])(
    'applies %s',
    (key) => expect(isReloaded(key, before)).toBe(true),
  )

  it.each(['root', 'log.format', 'cri.socket', 'timeouts.cni', 'sandboxers.a.b.address', 'sandboxer.mode'])(
    'leaves %s to a restart',
    (key) => expect(isReloaded(key, before)).toBe(false),
  )
})
