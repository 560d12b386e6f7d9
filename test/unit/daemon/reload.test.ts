import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import type { Config } from '../../../src/config/config.ts'
import { parseSettings } from '../../../src/config/parse.ts'
import { LiveConfig } from '../../../src/daemon/service/live-config.ts'
import { Reloader } from '../../../src/daemon/service/reload.ts'

/** A daemon that began with one text of a configuration file, and finds another. */
function harness(first: string, path?: string) {
  const loaded = { ...parseSettings(first, 'test'), file: path }
  const live = new LiveConfig(loaded.config)
  const file = { text: first, path }
  const notes: string[] = []
  const applied: (readonly string[])[] = []
  const apply = async (config: Config, keys: readonly string[]): Promise<void> => {
    applied.push(keys)
    live.apply(config, keys)
  }
  const reloader = new Reloader(loaded, {
    load: async () => ({ ...parseSettings(file.text, 'test'), file: file.path }),
    apply,
    service: { reloading: (work) => work(), note: (text) => void notes.push(text) },
    logger: pino({ level: 'silent' }),
  })
  return { reloader, live, file, notes, applied }
}

const RUNTIMES = '[runtimes.crun]\nruntime = "/usr/bin/crun"\n'

describe('Reloader', () => {
  it('applies what can be, and tells what needs a restart, again at the next reload', async () => {
    const { reloader, live, file, notes } = harness('')
    file.text = `[timeouts]\ndrain = 3\ncni = 20\n${RUNTIMES}[runtimes.new]\nruntime = "/usr/bin/new"\n`
    const { changed, needRestart } = await reloader.reload()
    expect(changed).toEqual(expect.arrayContaining(['runtimes.new.runtime', 'runtimes.runc.runtime', 'timeouts.drain']))
    expect(needRestart).toEqual(['timeouts.cni'])
    expect(Object.keys(live.current.runtimes)).toEqual(['crun', 'new'])
    expect(live.current.timeouts).toMatchObject({ drainMs: 3000, cniMs: 90_000 })
    expect(await reloader.reload()).toEqual({ changed: [], needRestart: ['timeouts.cni'] })
    expect(notes.at(-1)).toBe('a restart is needed for timeouts.cni')
    file.text = file.text.replace('cni = 20\n', '')
    expect(await reloader.reload()).toEqual({ changed: [], needRestart: [] })
    expect(notes.at(-1)).toBe('')
  })

  it('changes nothing for a configuration that cannot be used, and says which key is wrong', async () => {
    const { reloader, file, notes, applied } = harness('')
    file.text = '[log]\nlevel = "debug"\n[timeouts]\ndrain = "x"'
    await expect(reloader.reload()).rejects.toMatchObject({ code: 'InvalidArgument' })
    expect(applied).toEqual([])
    expect(notes).toEqual([
      'the configuration was not reloaded: read the configuration test: timeouts.drain: must be a number, not a string',
    ])
    file.text = '[timeouts]\ndrain = 1'
    expect(await reloader.reload()).toEqual({ changed: ['timeouts.drain'], needRestart: [] })
  })

  it('does not fall back to the defaults when the file is gone', async () => {
    const { reloader, file, applied } = harness('[timeouts]\ndrain = 3\n', '/etc/s.toml')
    Object.assign(file, { text: '', path: undefined })
    await expect(reloader.reload()).rejects.toThrow('read the configuration /etc/s.toml: it is not there any more')
    expect(applied).toEqual([])
    Object.assign(file, { text: '[timeouts]\ndrain = 4\n', path: '/etc/s.toml' })
    expect((await reloader.reload()).changed).toEqual(['timeouts.drain'])
  })

  it('leaves the runtimes as they are when the default is another: it may be none of those that run', async () => {
    const { reloader, live, file } = harness('')
    file.text = 'default_runtime_handler = "new"\n[runtimes.new]\nruntime = "/usr/bin/new"\n'
    const { changed, needRestart } = await reloader.reload()
    expect(changed).toEqual([])
    expect(needRestart).toEqual(expect.arrayContaining(['default_runtime_handler', 'runtimes.new.runtime']))
    expect(live.current.runtimes).toHaveProperty('crun')
  })

  it('adds a remote sandboxer, and leaves one that is there to a restart', async () => {
    const { reloader, file } = harness('[sandboxers.one]\naddress = "/run/one.sock"\n')
    file.text = '[sandboxers.one]\naddress = "/run/1.sock"\n[sandboxers.two]\naddress = "/run/two.sock"\n'
    const { changed, needRestart } = await reloader.reload()
    expect(changed).toContain('sandboxers.two.address')
    expect(needRestart).toEqual(['sandboxers.one.address'])
    file.text = file.text.replace('two.sock', '2.sock')
    expect((await reloader.reload()).needRestart).toEqual(['sandboxers.one.address', 'sandboxers.two.address'])
  })

  it('reloads once after the other', async () => {
    const { reloader, file, applied } = harness('')
    file.text = '[log]\nlevel = "debug"\n'
    const answers = await Promise.all([reloader.reload(), reloader.reload()])
    expect(answers.map(({ changed }) => changed)).toEqual([['log.level'], []])
    expect(applied).toEqual([['log.level'], []])
  })
})
