import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CniNetworks } from '../../../src/cni/cni-networks.ts'
import type { WatchDirectory } from '../../../src/cni/directory-watcher.ts'
import { FakePlugins } from '../../support/cni-plugins/fake-plugins.ts'
import { podConfig } from '../../support/cni-plugins/pod-config.ts'

const conf = (name: string) => ({ cniVersion: '1.0.0', name, plugins: [{ type: 'recorder' }] })
const never = 3_600_000

describe('CniNetworks following its directory', () => {
  let fakes: FakePlugins
  let networks: CniNetworks | undefined
  let lines: string[]

  const start = async (reloadIntervalMs: number, watch?: WatchDirectory): Promise<CniNetworks> => {
    const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) })
    networks = new CniNetworks(
      { confDir: fakes.confDir, binDirs: [fakes.binDir], maxConcurrent: 1, timeoutMs: 5_000, reloadIntervalMs },
      { logger, ...(watch ? { watch } : {}) },
    )
    await networks.start()
    return networks
  }
  const defaultOf = (cni: CniNetworks): string | undefined => {
    if (!cni.status().ready) return undefined
    return cni.plan({ id: 'pod', netnsPath: '', config: podConfig() })[0]?.network
  }

  beforeEach(async () => {
    lines = []
    fakes = await FakePlugins.make()
    await fakes.addRecorder('recorder', ['1.0.0'])
  })
  afterEach(async () => {
    await networks?.[Symbol.asyncDispose]()
    networks = undefined
    await fakes[Symbol.asyncDispose]()
  })

  it('sees files come, change places and go by watching', async () => {
    const cni = await start(never)
    expect(cni.status()).toEqual({
      ready: false,
      reason: 'NetworkPluginNotReady',
      message: `no CNI network configuration in ${fakes.confDir}`,
    })
    await fakes.configure('20-a.conflist', conf('a'))
    await expect.poll(() => defaultOf(cni)).toBe('a')
    await fakes.configure('10-b.conflist', conf('b'))
    await expect.poll(() => defaultOf(cni)).toBe('b')
    await rm(join(fakes.confDir, '10-b.conflist'))
    await expect.poll(() => defaultOf(cni)).toBe('a')
    await rm(join(fakes.confDir, '20-a.conflist'))
    await expect.poll(() => cni.status().ready).toBe(false)
  })

  it.each(['ENOSPC', 'EMFILE'])('polls when watching fails with %s, and says so once', async (code) => {
    let tries = 0
    const cni = await start(20, () => {
      tries += 1
      throw Object.assign(new Error(`${code}: no inotify left`), { code })
    })
    await fakes.configure('10-a.conflist', conf('a'))
    await expect.poll(() => defaultOf(cni)).toBe('a')
    await rm(join(fakes.confDir, '10-a.conflist'))
    await expect.poll(() => cni.status().ready).toBe(false)
    expect(tries).toBeGreaterThan(1)
    expect(lines.filter((line) => line.includes('cannot be watched'))).toHaveLength(1)
  })

  it('follows a directory that comes later or is replaced', async () => {
    await rm(fakes.confDir, { recursive: true })
    const cni = await start(20)
    expect(cni.status().ready).toBe(false)
    await mkdir(fakes.confDir)
    await fakes.configure('10-a.conflist', conf('a'))
    await expect.poll(() => defaultOf(cni)).toBe('a')
    await rename(fakes.confDir, fakes.path('old'))
    await expect.poll(() => cni.status().ready).toBe(false)
    await mkdir(fakes.confDir)
    await fakes.configure('10-c.conflist', conf('c'))
    await expect.poll(() => defaultOf(cni)).toBe('c')
  })

  it('becomes ready when a missing plugin is installed', async () => {
    await fakes.removePlugin('recorder')
    await fakes.configure('10-a.conflist', conf('a'))
    const cni = await start(20)
    expect(cni.status().message).toContain('plugin recorder: no such program')
    await fakes.addRecorder('recorder', ['1.0.0'])
    await expect.poll(() => cni.status().ready).toBe(true)
  })

  it('logs a file that it skips once, not with every look', async () => {
    await fakes.configure('10-bad.conflist', { name: 'bad' })
    await fakes.configure('20-a.conflist', conf('a'))
    const cni = await start(10)
    await fakes.configure('30-b.conflist', conf('b'))
    await expect.poll(() => lines.filter((line) => line.includes('"networks":["a","b"]'))).toHaveLength(1)
    expect(defaultOf(cni)).toBe('a')
    const skips = lines.filter((line) => line.includes('10-bad.conflist'))
    expect(skips.length).toBeGreaterThan(0)
    expect(skips.length).toBeLessThanOrEqual(lines.filter((line) => line.includes('CNI networks loaded')).length)
  })

  it('stops following when it is closed', async () => {
    const cni = await start(10)
    await cni[Symbol.asyncDispose]()
    networks = undefined
    await fakes.configure('10-a.conflist', conf('a'))
    await sleep(200)
    expect(cni.status().ready).toBe(false)
  })
})
