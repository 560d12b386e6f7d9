import { readdir, readFile } from 'node:fs/promises'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CniNetworks } from '../../../src/cni/cni-networks.ts'
import { CodedError } from '../../../src/core/errors.ts'
import { FakePlugins } from '../../support/cni-plugins/fake-plugins.ts'
import { podConfig } from '../../support/cni-plugins/pod-config.ts'
import { containing } from '../../support/cni-plugins/containing.ts'

const { signal } = new AbortController()
const VERSION = 'if [ "$CNI_COMMAND" = VERSION ]; then echo \'{"supportedVersions":["1.0.0"]}\'; exit 0; fi'

/** Not by signal 0: a process that nobody has reaped yet is dead all the same. */
async function isAlive(pid: string): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return stat !== '' && !/\) [ZX]/.test(stat)
}

describe('CniNetworks with plugins that hang', () => {
  let fakes: FakePlugins
  let cni: CniNetworks

  const start = async (timeoutMs: number): Promise<void> => {
    cni = new CniNetworks(
      { confDir: fakes.confDir, binDirs: [fakes.binDir], maxConcurrent: 2, timeoutMs, reloadIntervalMs: 60_000 },
      { logger: pino({ level: 'silent' }) },
    )
    await cni.start()
  }
  const plan = (index: number) => {
    const [attachment] = cni.plan({ id: `pod${index}`, netnsPath: '', config: podConfig() })
    if (!attachment) throw new Error('nothing planned')
    return attachment
  }
  const pids = async (): Promise<string[]> => (await readFile(fakes.path('pids'), 'utf8')).trim().split(/\s+/)

  beforeEach(async () => {
    fakes = await FakePlugins.make()
    // It ignores polite signals and has a child, as a plugin that waits for its IPAM plugin has.
    const hang = `trap '' TERM\nsleep 1000 &\necho $$ $! >> ${fakes.path('pids')}\nwait`
    await fakes.addScript('hanging', `#!/bin/sh\n${VERSION}\n${hang}\n`)
    const mark = `${fakes.path('inside')}.$$`
    const count = `mkdir ${mark}; sleep 0.05; ls -d ${fakes.path('inside')}.* | wc -l >> ${fakes.path('counts')}; rmdir ${mark}`
    await fakes.addScript('counting', `#!/bin/sh\n${VERSION}\n${count}\necho '{}'\n`)
    await fakes.addRecorder('recorder', ['1.0.0'])
    await fakes.answer('recorder', 'ADD', '{}')
  })
  afterEach(async () => {
    await cni[Symbol.asyncDispose]()
    await fakes[Symbol.asyncDispose]()
  })

  it('kills them with their children at the deadline and lets the next in', async () => {
    await fakes.configure('net.conflist', { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'hanging' }] })
    await start(1_000)
    const adding = Array.from({ length: 5 }, (_, index) => cni.add(plan(index), signal))
    for (const result of await Promise.allSettled(adding)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { name: 'CniPluginError', code: 'DeadlineExceeded' } })
    }
    const started = await pids()
    expect(started).toHaveLength(10)
    for (const pid of started) expect(await isAlive(pid), `process ${pid}`).toBe(false)
  })

  it('kills them when the caller gives up, and never starts those that wait', async () => {
    await fakes.configure('net.conflist', { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'hanging' }] })
    await start(60_000)
    const abort = new AbortController()
    const adding = Promise.allSettled(Array.from({ length: 4 }, (_, index) => cni.add(plan(index), abort.signal)))
    await expect.poll(pids).toHaveLength(4)
    abort.abort(new CodedError('Canceled', 'the caller left'))
    for (const result of await adding)
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'Canceled' } })
    const started = await pids()
    expect(started).toHaveLength(4)
    for (const pid of started) expect(await isAlive(pid), `process ${pid}`).toBe(false)
  })

  it('still lets the other plugins of a chain clean up', async () => {
    const plugins = [{ type: 'recorder' }, { type: 'hanging' }]
    await fakes.configure('net.conflist', { cniVersion: '1.0.0', name: 'net', plugins })
    await start(3_000)
    await expect(cni.del(plan(0), null, signal)).rejects.toMatchObject({
      code: 'DeadlineExceeded',
      message: containing('plugin hanging'),
    })
    expect((await fakes.runs()).map((run) => `${run.command} ${run.type}`)).toEqual(['DEL recorder'])
  })

  it('never runs more than maxConcurrent chains of a network', async () => {
    await fakes.configure('net.conflist', { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'counting' }] })
    await start(20_000)
    await Promise.all(Array.from({ length: 8 }, (_, index) => cni.add(plan(index), signal)))
    const counts = (await readFile(fakes.path('counts'), 'utf8')).trim().split('\n').map(Number)
    expect(counts).toHaveLength(8)
    expect(Math.max(...counts)).toBeLessThanOrEqual(2)
    expect((await readdir(fakes.path('.'))).filter((name) => name.startsWith('inside'))).toEqual([])
  })

  it('does not let one network hold up another', async () => {
    await fakes.configure('10.conflist', { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'hanging' }] })
    await fakes.configure('20.conflist', { cniVersion: '1.0.0', name: 'good', plugins: [{ type: 'recorder' }] })
    await start(60_000)
    const abort = new AbortController()
    const hanging = Promise.allSettled([0, 1, 2].map((index) => cni.add(plan(index), abort.signal)))
    const annotations = { 'network.alpha.kubernetes.io/network': '[{"name":"good","interface":"eth0"}]' }
    const [good] = cni.plan({ id: 'pod9', netnsPath: '', config: podConfig({ annotations }) })
    if (!good) throw new Error('nothing planned')
    await cni.add(good, signal)
    abort.abort()
    await hanging
  })
})
