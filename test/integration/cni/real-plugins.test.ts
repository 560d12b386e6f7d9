import { existsSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CniNetworks } from '../../../src/cni/cni-networks.ts'
import { type CniResult, sandboxIps } from '../../../src/cni/result.ts'
import type { PodSandboxConfig__Output } from '../../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { podConfig } from '../../support/cni-plugins/pod-config.ts'
import { TestNode, whyNoRealPlugins } from '../../support/cni-plugins/real-plugins.ts'
import { containing } from '../../support/cni-plugins/containing.ts'

const why = whyNoRealPlugins()
if (why) process.stderr.write(`SKIPPED: CNI tests with real plugins: ${why}\n`)

const podIps = (result: CniResult): string[] => sandboxIps(result, 'eth0')
const { signal } = new AbortController()
const hadCniState = existsSync('/var/lib/cni')
const id = 'a'.repeat(64)

describe.skipIf(why !== '')('CniNetworks with bridge, host-local and portmap', () => {
  let node: TestNode
  let networks: CniNetworks | undefined

  const start = async (): Promise<CniNetworks> => {
    networks = new CniNetworks(
      { confDir: node.confDir, binDirs: [node.binDir], maxConcurrent: 4, timeoutMs: 20_000, reloadIntervalMs: 60_000 },
      { logger: pino({ level: 'silent' }) },
    )
    await networks.start()
    return networks
  }
  const planOne = (cni: CniNetworks, netnsPath: string, part: Partial<PodSandboxConfig__Output> = {}) => {
    const [attachment] = cni.plan({ id, netnsPath, config: podConfig(part) })
    if (!attachment) throw new Error('nothing planned')
    return attachment
  }

  beforeEach(async () => {
    node = await TestNode.make()
  })
  afterEach(async () => {
    await networks?.[Symbol.asyncDispose]()
    networks = undefined
    await node[Symbol.asyncDispose]()
  })
  afterAll(async () => {
    const left = (await readdir('/run/netns')).filter((name) => name.includes(`-${process.pid}-`))
    expect(left).toEqual([])
    expect(existsSync('/var/lib/cni')).toBe(hadCniState)
  })

  it('attaches a pod with both families and detaches it without a trace', async () => {
    await node.configure('10-net.conflist', 'net')
    const cni = await start()
    expect(cni.status()).toEqual({ ready: true, reason: '', message: '' })
    const netnsPath = await node.addPod()
    const attachment = planOne(cni, netnsPath)

    const result = await cni.add(attachment, signal)
    expect(podIps(result)).toEqual(['10.123.7.2', 'fd00:123:7::2'])
    expect(await node.podAddresses(netnsPath, 'eth0')).toEqual(podIps(result))
    expect(await node.reservedIps('net')).toEqual(podIps(result))
    expect(await node.veths()).toHaveLength(1)
    await cni.check(attachment, result, signal)

    await cni.del(attachment, result, signal)
    expect(await node.reservedIps('net')).toEqual([])
    expect(await node.veths()).toEqual([])
    await cni.del(attachment, result, signal)
  })

  it.each(['0.3.1', '0.4.0', '1.0.0'])('speaks %s from a stored record, also without the result', async (version) => {
    await node.configure('10-net.conflist', 'net', { version })
    const cni = await start()
    const attachment = planOne(cni, await node.addPod())
    expect(podIps(await cni.add(attachment, signal))).toHaveLength(2)
    await cni.del(JSON.parse(JSON.stringify(attachment)) as typeof attachment, null, signal)
    expect(await node.reservedIps('net')).toEqual([])
    expect(await node.veths()).toEqual([])
  })

  it('finds with CHECK that an address is gone', async () => {
    await node.configure('10-net.conflist', 'net')
    const cni = await start()
    const attachment = planOne(cni, await node.addPod())
    const result = await cni.add(attachment, signal)
    await rm(join(node.dir, 'ipam', 'net', podIps(result)[0] ?? ''))
    await rm(join(node.dir, 'ipam', 'net', podIps(result)[1] ?? ''))
    await expect(cni.check(attachment, result, signal)).rejects.toMatchObject({ command: 'CHECK', plugin: 'bridge' })
    await cni.del(attachment, result, signal)
  })

  it('frees the addresses of a pod whose namespace is gone, or only its file is left', async () => {
    await node.configure('10-net.conflist', 'net')
    const cni = await start()
    const netnsPath = await node.addPod()
    const attachment = planOne(cni, netnsPath)
    const result = await cni.add(attachment, signal)
    await node.deletePod(netnsPath)
    await cni.del(attachment, result, signal)
    expect(await node.reservedIps('net')).toEqual([])

    const again = planOne(cni, await node.addPod())
    const second = await cni.add(again, signal)
    await cni.del({ ...again, netnsPath: join(node.confDir, '10-net.conflist') }, second, signal)
    expect(await node.reservedIps('net')).toEqual([])
  })

  it('detaches with the configuration of ADD, whatever became of the files', async () => {
    await node.configure('10-net.conflist', 'net')
    const cni = await start()
    const changed = planOne(cni, await node.addPod())
    const changedResult = await cni.add(changed, signal)
    const removed = { ...planOne(cni, await node.addPod()), containerId: 'b'.repeat(64) }
    const removedResult = await cni.add(removed, signal)
    expect(await node.reservedIps('net')).toHaveLength(4)

    await node.configure('05-first.conflist', 'other')
    await node.configure('10-net.conflist', 'net', {
      version: '0.4.0',
      bridge: { ipam: { type: 'host-local', dataDir: '/dev/null' } },
    })
    await networks?.[Symbol.asyncDispose]()
    let next = await start()
    await next.del(changed, changedResult, signal)
    expect(await node.reservedIps('net')).toHaveLength(2)

    await rm(node.confDir, { recursive: true })
    await networks?.[Symbol.asyncDispose]()
    next = await start()
    expect(next.status().ready).toBe(false)
    expect(() => planOne(next, '/run/netns/x')).toThrow(expect.objectContaining({ code: 'FailedPrecondition' }))
    await next.del(removed, removedResult, signal)
    expect(await node.reservedIps('net')).toEqual([])
    expect(await node.veths()).toEqual([])
  })

  it('leaves to DEL what a chain has done that fails in its second plugin', async () => {
    await node.configure('10-net.conflist', 'net', {
      more: [{ type: 'portmap', capabilities: { portMappings: true }, snat: 'nonsense' }],
    })
    const cni = await start()
    const attachment = planOne(cni, await node.addPod())
    const failed = await cni.add(attachment, signal).catch((error: unknown) => error)
    expect(failed).toMatchObject({ name: 'CniPluginError', plugin: 'portmap', command: 'ADD' })
    expect(await node.reservedIps('net')).toHaveLength(2)
    // portmap refuses its configuration on DEL too; bridge is cleaned up all the same, and the debt is reported.
    await expect(cni.del(attachment, null, signal)).rejects.toThrow('plugin portmap')
    expect(await node.reservedIps('net')).toEqual([])
    expect(await node.veths()).toEqual([])
  })

  it('owes a DEL whose plugin is not installed any more', async () => {
    await node.configure('10-net.conflist', 'net')
    const cni = await start()
    const attachment = planOne(cni, await node.addPod())
    const result = await cni.add(attachment, signal)
    const elsewhere = new CniNetworks(
      { confDir: node.confDir, binDirs: [node.confDir], maxConcurrent: 1, timeoutMs: 5_000, reloadIntervalMs: 60_000 },
      { logger: pino({ level: 'silent' }) },
    )
    await expect(elsewhere.del(attachment, result, signal)).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: containing('plugin bridge: no such program'),
    })
    await cni.del(attachment, result, signal)
    expect(await node.reservedIps('net')).toEqual([])
  })

  it('maps host ports and takes the rules away', async () => {
    await node.configure('10-net.conflist', 'net', {
      more: [{ type: 'portmap', capabilities: { portMappings: true } }],
    })
    const cni = await start()
    const port_mappings = [
      { protocol: 'TCP', container_port: 80, host_port: 18080, host_ip: '' },
      { protocol: 'UDP', container_port: 53, host_port: 0, host_ip: '' },
    ] as const
    const attachment = planOne(cni, await node.addPod(), { port_mappings: [...port_mappings] })
    const result = await cni.add(attachment, signal)
    expect(await node.natRules('18080')).not.toEqual([])
    await cni.del(attachment, result, signal)
    expect(await node.natRules('18080')).toEqual([])
    expect(await node.reservedIps('net')).toEqual([])
  })

  it('attaches a second network under its own interface and takes addresses that were asked for', async () => {
    await node.configure('10-net.conflist', 'net')
    await node.configure('20-blue.conflist', 'blue', { bridge: { capabilities: { ips: true } } })
    const cni = await start()
    const netnsPath = await node.addPod()
    const plane = { name: 'blue', interface: 'eth1', ips: ['10.123.7.77'] }
    const annotations = { 'network.alpha.kubernetes.io/network': JSON.stringify([plane]) }
    const attachments = cni.plan({ id, netnsPath, config: podConfig({ annotations }) })
    expect(attachments.map((attachment) => attachment.ifName)).toEqual(['eth0', 'eth1'])
    const results = []
    for (const attachment of attachments) results.push(await cni.add(attachment, signal))
    expect(await node.podAddresses(netnsPath, 'eth1')).toContain('10.123.7.77')
    for (const [index, attachment] of attachments.entries()) await cni.del(attachment, results[index] ?? null, signal)
    expect([...(await node.reservedIps('net')), ...(await node.reservedIps('blue'))]).toEqual([])
    expect(await node.veths()).toEqual([])
  })

  it('takes addresses from the pod CIDRs', async () => {
    const dataDir = join(node.dir, 'ipam')
    await node.configure('10-net.conflist', 'net', {
      bridge: { ipam: { type: 'host-local', dataDir }, capabilities: { ipRanges: true } },
    })
    const cni = await start()
    cni.setPodCidrs(['10.124.0.0/24', 'fd00:124::/64'])
    const attachment = planOne(cni, await node.addPod())
    const result = await cni.add(attachment, signal)
    expect(podIps(result)).toEqual(['10.124.0.2', 'fd00:124::2'])
    await cni.del(attachment, result, signal)
    expect(await node.reservedIps('net')).toEqual([])
  })
})
