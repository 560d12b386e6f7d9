import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CniNetworks, type CniNetworksOptions } from '../../../src/cni/cni-networks.ts'
import { FakePlugins, type PluginRun } from '../../support/cni-plugins/fake-plugins.ts'
import { podConfig } from '../../support/cni-plugins/pod-config.ts'
import { containing } from '../../support/cni-plugins/containing.ts'

const { signal } = new AbortController()
const all = ['0.3.1', '0.4.0', '1.0.0', '1.1.0']
const commands = (runs: PluginRun[]): string[] => runs.map((run) => `${run.command} ${run.type}`)
const answer = (address: string) => ({ cniVersion: '1.1.0', ips: [{ address }] })

describe('CniNetworks and what plugins are told', () => {
  let fakes: FakePlugins
  let networks: CniNetworks | undefined

  const start = async (options: Partial<CniNetworksOptions> = {}, nowMs?: () => number): Promise<CniNetworks> => {
    networks = new CniNetworks(
      {
        confDir: fakes.confDir,
        binDirs: [fakes.path('none'), fakes.binDir],
        maxConcurrent: 2,
        timeoutMs: 10_000,
        reloadIntervalMs: 60_000,
        ...options,
      },
      { logger: pino({ level: 'silent' }), ...(nowMs ? { nowMs } : {}) },
    )
    await networks.start()
    return networks
  }
  const chain = (more: object = {}) => ({
    cniVersion: '1.1.0',
    name: 'net',
    plugins: [{ type: 'first', capabilities: { dns: true }, own: { key: [1] } }, { type: 'second' }],
    ...more,
  })
  const attachment = (cni: CniNetworks, id = 'pod1') => {
    const dns_config = { servers: ['10.0.0.10'], searches: [], options: [] }
    const [planned] = cni.plan({ id, netnsPath: '/proc/self/ns/net', config: podConfig({ dns_config }) })
    if (!planned) throw new Error('nothing planned')
    return planned
  }

  beforeEach(async () => {
    fakes = await FakePlugins.make()
    await fakes.addRecorder('first', all)
    await fakes.addRecorder('second', all)
    await fakes.answer('first', 'ADD', answer('10.0.0.2/24'))
    await fakes.answer('second', 'ADD', answer('10.0.0.3/24'))
  })
  afterEach(async () => {
    await networks?.[Symbol.asyncDispose]()
    networks = undefined
    await fakes[Symbol.asyncDispose]()
  })

  it('hands results on: ADD forward, CHECK forward, DEL backward', async () => {
    await fakes.configure('net.conflist', chain())
    const cni = await start()
    const planned = attachment(cni)
    const result = await cni.add(planned, signal)
    expect(result.ips).toEqual([{ address: '10.0.0.3/24' }])
    await cni.check(planned, result, signal)
    await cni.del(planned, result, signal)

    const runs = (await fakes.runs()).filter((run) => run.command !== 'STATUS')
    expect(commands(runs)).toEqual([
      'ADD first',
      'ADD second',
      'CHECK first',
      'CHECK second',
      'DEL second',
      'DEL first',
    ])
    expect(runs.map((run) => run.config['prevResult'])).toEqual([
      undefined,
      answer('10.0.0.2/24'),
      ...Array.from({ length: 4 }, () => answer('10.0.0.3/24')),
    ])
    for (const run of runs) {
      expect(run).toMatchObject({ containerId: 'pod1', netns: '/proc/self/ns/net', ifName: 'eth0' })
      expect(run.args).toContain('IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web')
      expect(run.config).toMatchObject({ name: 'net', cniVersion: '1.1.0', type: run.type })
      expect(run.config).not.toHaveProperty('capabilities')
    }
    expect(runs[0]?.config).toMatchObject({ own: { key: [1] }, runtimeConfig: { dns: { servers: ['10.0.0.10'] } } })
    expect(runs[1]?.config).not.toHaveProperty('runtimeConfig')
  })

  it('gives plugins nothing of its own environment', async () => {
    process.env['SANDBOXERD_TEST_SECRET'] = 'x'
    try {
      await fakes.configure('net.conflist', chain())
      const cni = await start()
      await cni.add(attachment(cni), signal)
    } finally {
      delete process.env['SANDBOXERD_TEST_SECRET']
    }
    const ofShell = ['PWD', 'OLDPWD', 'SHLVL', '_']
    const own = (await fakes.runs())
      .find((run) => run.command === 'ADD')
      ?.envNames.filter((name) => !ofShell.includes(name))
    expect(own).toEqual(['CNI_ARGS', 'CNI_COMMAND', 'CNI_CONTAINERID', 'CNI_IFNAME', 'CNI_NETNS', 'CNI_PATH', 'PATH'])
  })

  it.each([
    ['0.3.1', 'no result on DEL, no CHECK', ['ADD first', 'ADD second', 'DEL second', 'DEL first'], false],
    [
      '0.4.0',
      'a result on DEL and CHECK',
      ['ADD first', 'ADD second', 'CHECK first', 'CHECK second', 'DEL second', 'DEL first'],
      true,
    ],
  ] as const)('speaks %s: %s, no STATUS, no GC', async (cniVersion, _what, expected, hasResult) => {
    await fakes.answer('first', 'ADD', { ...answer('10.0.0.2/24'), cniVersion })
    await fakes.answer('second', 'ADD', { ...answer('10.0.0.3/24'), cniVersion })
    await fakes.configure('net.conflist', chain({ cniVersion }))
    const cni = await start()
    const planned = attachment(cni)
    const result = await cni.add(planned, signal)
    await cni.check(planned, result, signal)
    await cni.gc(() => [], signal)
    await cni.del(planned, result, signal)
    const runs = await fakes.runs()
    expect(commands(runs)).toEqual(expected)
    expect(runs.at(-1)?.config['prevResult'] !== undefined).toBe(hasResult)
  })

  it('does not CHECK or GC where the configuration forbids it', async () => {
    await fakes.configure('net.conflist', chain({ disableCheck: true, disableGC: true }))
    const cni = await start()
    const planned = attachment(cni)
    const result = await cni.add(planned, signal)
    await cni.check(planned, result, signal)
    await cni.gc(() => [planned], signal)
    expect(commands(await fakes.runs())).toEqual(['STATUS first', 'STATUS second', 'ADD first', 'ADD second'])
  })

  it('stops ADD at the first failure and keeps what the plugin says', async () => {
    await fakes.configure('net.conflist', chain())
    const cni = await start()
    await fakes.answer('first', 'ADD', { cniVersion: '1.1.0', code: 11, msg: 'try again', details: 'no lease\nyet' }, 1)
    await expect(cni.add(attachment(cni), signal)).rejects.toMatchObject({
      code: 'Unavailable',
      pluginCode: 11,
      message: 'CNI ADD of plugin first: try again: no lease; yet (code 11)',
    })
    await fakes.answer('first', 'ADD', 'panic: oops', 2)
    await expect(cni.add(attachment(cni), signal)).rejects.toThrow('CNI ADD of plugin first: exit code 2: panic: oops')
    await fakes.answer('first', 'ADD', 'no result')
    await expect(cni.add(attachment(cni), signal)).rejects.toThrow(
      'CNI ADD of plugin first: the result is not a CNI result',
    )
    expect(commands(await fakes.runs())).not.toContain('ADD second')
  })

  it('tries every plugin on DEL and names those that failed', async () => {
    await fakes.configure('net.conflist', chain())
    const cni = await start()
    const planned = attachment(cni)
    await fakes.answer('second', 'DEL', { code: 100, msg: 'two' }, 1)
    await fakes.answer('first', 'DEL', { code: 101, msg: 'one' }, 1)
    const failed = cni.del({ ...planned, netnsPath: '/run/netns/not-there' }, null, signal)
    await expect(failed).rejects.toThrow(/DEL of network net: .*second: two \(code 100\); .*first: one \(code 101\)/)
    await fakes.answer('second', 'DEL', { code: 3, msg: 'container unknown' }, 1)
    await fakes.answer('first', 'DEL', '')
    await cni.del({ ...planned, netnsPath: '/run/netns/not-there' }, null, signal)
    const runs = (await fakes.runs()).filter((run) => run.command === 'DEL')
    expect(commands(runs)).toEqual(['DEL second', 'DEL first', 'DEL second', 'DEL first'])
    expect(runs.map((run) => run.netns)).toEqual(['', '', '', ''])
  })

  it('collects garbage with the attachments that are valid when nothing else runs', async () => {
    await fakes.configure('net.conflist', chain())
    await fakes.configure('other.conflist', { cniVersion: '1.0.0', name: 'other', plugins: [{ type: 'first' }] })
    const cni = await start()
    const planned = attachment(cni)
    const recorded = [{ ...planned, network: 'other' }]
    const adding = cni.add(planned, signal)
    const collecting = cni.gc(() => recorded, signal)
    recorded.push(planned)
    await Promise.all([adding, collecting])
    const runs = (await fakes.runs()).filter((run) => run.command !== 'STATUS')
    expect(commands(runs)).toEqual(['ADD first', 'ADD second', 'GC first', 'GC second'])
    const valid = [{ containerID: 'pod1', ifname: 'eth0' }]
    expect(runs[3]?.config).toMatchObject({
      'cni.dev/valid-attachments': valid,
      'cni.dev/attachments': valid,
      name: 'net',
    })
    expect(runs[3]).toMatchObject({ containerId: '', netns: '', ifName: '' })
  })

  it('goes on with GC when a plugin fails and says so', async () => {
    await fakes.configure('net.conflist', chain())
    const cni = await start()
    await fakes.answer('first', 'GC', { code: 100, msg: 'locked' }, 1)
    await expect(cni.gc(() => [], signal)).rejects.toThrow('CNI GC of plugin first: locked (code 100)')
    expect(commands(await fakes.runs())).toContain('GC second')
  })

  it('takes the highest common version and asks each plugin once', async () => {
    await fakes.addRecorder('second', ['0.4.0', '1.0.0'])
    await fakes.configure(
      'net.conflist',
      chain({ cniVersion: '0.4.0', cniVersions: ['0.4.0', '1.0.0', '1.1.0', '9.0.0'] }),
    )
    await fakes.configure('other.conflist', { cniVersion: '1.0.0', name: 'other', plugins: [{ type: 'first' }] })
    const cni = await start()
    expect(attachment(cni).cniVersion).toBe('1.0.0')
    expect(await fakes.versionRuns()).toBe(2)
  })

  it.each([
    ['a version that nobody speaks', { cniVersion: '2.0.0' }, 'cniVersion 2.0.0 is not supported'],
    ['a version that a plugin lacks', { plugins: [{ type: 'old' }] }, 'plugin old does not support cniVersion 1.1.0'],
    ['a plugin that is missing', { plugins: [{ type: 'none' }] }, 'plugin none: no such program in'],
  ])('is not ready with %s, and does not use the next network', async (_what, part, message) => {
    await fakes.addRecorder('old', ['0.4.0'])
    await fakes.configure('10-net.conflist', chain(part))
    await fakes.configure('20-good.conflist', chain({ name: 'good' }))
    const cni = await start()
    expect(cni.status()).toEqual({
      ready: false,
      reason: 'NetworkPluginNotReady',
      message: containing(message),
    })
    expect(() => attachment(cni)).toThrow(expect.objectContaining({ code: 'FailedPrecondition' }))
  })

  it('uses a plugin that does not answer VERSION', async () => {
    await fakes.addScript('script', '#!/bin/sh\necho "what?"\nexit 3\n')
    await fakes.configure('net.conflist', { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'script' }] })
    const cni = await start()
    expect(cni.status().ready).toBe(true)
    await expect(cni.add(attachment(cni), signal)).rejects.toThrow('exit code 3: what?')
  })

  it('runs a plugin that does not read its input', async () => {
    await fakes.addScript('deaf', '#!/bin/sh\nexec <&-\necho "{}"\n')
    await fakes.configure('net.conflist', {
      cniVersion: '1.0.0',
      name: 'net',
      plugins: [{ type: 'deaf', pad: 'x'.repeat(300_000) }],
    })
    const cni = await start()
    expect((await cni.add(attachment(cni), signal)).ips).toEqual([])
  })

  it('follows STATUS with patience for plugins that were ready', async () => {
    const clock = { ms: 0 }
    const statusRuns = async () => (await fakes.runs()).filter((run) => run.command === 'STATUS').length
    await fakes.configure('net.conflist', chain())
    await fakes.answer('second', 'STATUS', { code: 50, msg: 'agent is down' }, 1)
    const cni = await start({ reloadIntervalMs: 50 }, () => clock.ms)
    expect(cni.status()).toMatchObject({ ready: false, message: containing('agent is down (code 50)') })
    await fakes.answer('second', 'STATUS', '')
    await expect.poll(() => cni.status().ready).toBe(true)
    await fakes.answer('second', 'STATUS', { code: 50, msg: 'agent is down' }, 1)
    const before = await statusRuns()
    await expect.poll(statusRuns).toBeGreaterThan(before + 4)
    clock.ms += 15_000
    expect(cni.status().ready).toBe(true)
    clock.ms += 46_000
    expect(cni.status()).toMatchObject({ ready: false, message: containing('agent is down') })
  })
})
