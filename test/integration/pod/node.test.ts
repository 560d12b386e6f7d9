import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { bridgeNetwork, ownDaemons, TestDaemon } from '../../support/daemon.ts'
import { addressesIn, eventually, inside } from '../../support/pod-facts.ts'

const start = ownDaemons()

const portmap = { type: 'portmap', capabilities: { portMappings: true } }
const dualStack = [[{ subnet: '10.64.0.0/16' }], [{ subnet: 'fd00:64::/64' }]]
const hasIptables = await inside([], 'iptables', '-t', 'nat', '-S').then(
  () => true,
  () => false,
)

describe('pod networks', () => {
  it('gives both addresses of a dual-stack network, the first one as the primary', async () => {
    const own = await start({
      networks: (daemon) => {
        const ipam = { type: 'host-local', dataDir: join(daemon.dir, 'ipam'), ranges: dualStack }
        return { '10-dual.conflist': bridgeNetwork(daemon, { bridge: { ipam } }) }
      },
    })
    const id = await own.run()
    const { network } = await own.client.status(id)
    expect(network?.ip).toMatch(/^10\.64\./)
    expect(network?.additional_ips).toEqual([{ ip: expect.stringMatching(/^fd00:64::/) as string }])
    const { netnsPath } = await own.client.info(id)
    expect(await addressesIn(netnsPath)).toEqual([network?.ip, network?.additional_ips[0]?.ip])
    await own.removeListed()
  })

  it('lets two pods reach each other', async () => {
    const own = await start()
    const [a, b] = [await own.run(own.pod(), 'crun'), await own.run(own.pod(), 'runc-pinned')]
    const { netnsPath } = await own.client.info(a)
    const { network } = await own.client.status(b)
    const out = await inside([`--net=${netnsPath}`], 'ping', '-c', '1', '-W', '5', network?.ip ?? '')
    expect(out).toContain('1 received')
    await own.removeListed()
  })

  it.skipIf(!hasIptables)('forwards host ports of tcp and udp, and takes the rules back', async () => {
    const own = await start({
      networks: (daemon) => ({ '10-ports.conflist': bridgeNetwork(daemon, { more: [portmap] }) }),
    })
    const port_mappings = [
      { protocol: 'TCP', container_port: 80, host_port: 18080, host_ip: '10.64.0.1' },
      { protocol: 'UDP', container_port: 53, host_port: 18053 },
      { protocol: 'SCTP', container_port: 99, host_port: 18099 },
      { protocol: 'TCP', container_port: 81, host_port: 0 },
    ] as const
    const id = await own.run(own.pod({ port_mappings: [...port_mappings] }))
    const { network } = await own.client.status(id)
    const rules = await inside([`--net=/run/netns/${own.node}`], 'iptables', '-t', 'nat', '-S')
    expect(rules).toContain(`-d 10.64.0.1/32 -p tcp -m tcp --dport 18080 -j DNAT --to-destination ${network?.ip}:80`)
    expect(rules).toContain(`-p udp -m udp --dport 18053 -j DNAT --to-destination ${network?.ip}:53`)
    expect(rules).toContain(`-p sctp -m sctp --dport 18099 -j DNAT --to-destination ${network?.ip}:99`)
    expect(rules).not.toContain(':81')
    await own.removeListed()
    expect(await inside([`--net=/run/netns/${own.node}`], 'iptables', '-t', 'nat', '-S')).not.toContain(network?.ip)
  })
})

describe('a node without a CNI configuration', () => {
  it('says so, and runs pods on the network of the node', async () => {
    const own = await start({ networks: () => ({}) })
    const condition = await own.client.condition('NetworkReady')
    expect(condition).toMatchObject({ status: false, reason: 'NetworkPluginNotReady' })
    expect(condition.message).toContain(own.confDir)
    expect(await own.client.condition('RuntimeReady')).toMatchObject({ status: true })
    await expect(own.run()).rejects.toMatchObject({ details: expect.stringContaining(own.confDir) as string })
    const id = await own.run(own.hostPod())
    expect((await own.client.status(id)).state).toBe('SANDBOX_READY')
    await own.removeListed()
  })

  it('still releases the networks of the pods it had', async () => {
    const own = await start()
    const ids = [await own.run(), await own.run()]
    await rm(join(own.confDir, '10-test.conflist'))
    const condition = await eventually(
      () => own.client.condition('NetworkReady'),
      ({ status }) => !status,
      10_000,
    )
    expect(condition.status).toBe(false)
    await own.client.stop(ids[0] ?? '')
    await own.restart()
    await own.removeListed()
  })

  it('takes up a configuration that appears', async () => {
    const own = await start({ networks: () => ({}) })
    await own.writeNetwork('10-new.conflist', bridgeNetwork(own))
    const condition = await eventually(
      () => own.client.condition('NetworkReady'),
      ({ status }) => status,
      10_000,
    )
    expect(condition).toMatchObject({ status: true, reason: '' })
    await own.run()
    await own.removeListed()
  })
})

describe('UpdateRuntimeConfig', () => {
  it('gives the pod CIDR to plugins that take ranges, also after a restart', async () => {
    const own = await start({
      networks: (daemon) => {
        const ipam = { type: 'host-local', dataDir: join(daemon.dir, 'ipam') }
        const bridge = { ipam, capabilities: { ipRanges: true } }
        return { '10-ranges.conflist': bridgeNetwork(daemon, { bridge }) }
      },
    })
    await own.client.updatePodCidr('10.77.5.0/24')
    const first = await own.run()
    expect((await own.client.status(first)).network?.ip).toMatch(/^10\.77\.5\./)
    await own.restart()
    const second = await own.run()
    expect((await own.client.status(second)).network?.ip).toMatch(/^10\.77\.5\./)
    await own.removeListed()
  })
})

describe('several daemons', () => {
  it('run side by side and do not see each other', async () => {
    const a = await start()
    const b = await start({ networks: (daemon) => ({ '10-b.conflist': bridgeNetwork(daemon, { name: 'other' }) }) })
    const config = a.pod()
    const [idOfA, idOfB] = [await a.run(config), await b.run({ ...b.pod(), metadata: config.metadata ?? null })]
    expect((await a.client.list()).map(({ id }) => id)).toEqual([idOfA])
    expect((await b.client.list()).map(({ id }) => id)).toEqual([idOfB])
    await a.restart()
    expect((await b.client.status(idOfB)).state).toBe('SANDBOX_READY')
    await a.removeListed()
    expect((await b.client.status(idOfB)).state).toBe('SANDBOX_READY')
    await b.removeListed()
  })

  it('are refused on one root directory, and the first one goes on', async () => {
    const a = await start()
    const id = await a.run(a.hostPod())
    const second = await TestDaemon.prepare({
      config: { root: join(a.dir, 'root'), checkpoint_key_file: '' },
      node: a.node,
    })
    try {
      second.spawn()
      expect(await second.ended()).toMatchObject({ code: 1 })
      expect(second.logs()).toContain(join(a.dir, 'root'))
      expect(second.logs()).toMatch(/another|already|in use/)
    } finally {
      await second[Symbol.asyncDispose]()
    }
    expect((await a.client.status(id)).state).toBe('SANDBOX_READY')
    await a.run(a.hostPod())
    await a.removeListed()
  })
})

describe('SIGTERM', () => {
  it('ends the daemon and no pod, and the next one finds them', async () => {
    const own = await start()
    const ids = [await own.run(own.pod(), 'crun'), await own.run(own.pod(), 'crun-pinned')]
    const stopped = await own.run(own.hostPod(), 'runc')
    await own.client.stop(stopped)
    const before = await Promise.all(ids.map((id) => own.client.info(id)))
    const exit = (await own.client.info(stopped)).exit
    expect(await own.stop()).toBe(0)
    for (const { pid } of before) expect(process.kill(pid, 0)).toBe(true)
    await own.restart()
    for (const [index, id] of ids.entries()) {
      expect((await own.client.status(id)).state).toBe('SANDBOX_READY')
      expect(await own.client.info(id)).toMatchObject({
        pid: before[index]?.pid,
        checkpoint: before[index]?.checkpoint,
      })
    }
    expect(await own.client.info(stopped)).toMatchObject({ state: 'STOPPED', exit })
    await own.removeListed()
  })
})
