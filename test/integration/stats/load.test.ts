import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Kernel } from '../../../src/host/kernel/kernel.ts'
import { run, runOk } from '../../../src/host/programs/run.ts'
import { NodeStats } from '../../../src/stats/node-stats.ts'
import { ThreadReader } from '../../../src/stats/reader.ts'
import { containerTarget, FakeSource, idOf, sandboxTarget } from '../../support/fake-stats.ts'
import { eventually } from '../../support/pod-facts.ts'
import { slowed } from '../../support/slowness.ts'
import { cpuTimeNs, statusBytes, TestCgroup } from './test-cgroup.ts'

const MIB = 1024 * 1024
const never = new AbortController().signal
/** Burns CPU time, says so, fills memory, says so, and sleeps. */
const BURN_AND_FILL = `$| = 1; 1 while (times)[0] < 1; print "burnt\\n"; $x = "x" x ${128 * MIB}; print "filled\\n"; sleep 600`
const BURN = '$| = 1; print "burning\\n"; 1 while 1'

let source: FakeSource
let reader: ThreadReader
let kernel: Kernel
let directory: string
let stats: NodeStats
beforeEach(() => {
  source = new FakeSource()
  reader = new ThreadReader({ timeoutMs: 10_000 })
  kernel = new Kernel({ timeoutMs: 10_000 })
  directory = mkdtempSync(join(tmpdir(), 'sandboxerd-stats-'))
  stats = new NodeStats(
    { minIntervalMs: 1, writableLayerIntervalMs: 1000, layersPath: directory },
    {
      source,
      reader,
      told: { of: async () => new Map() },
      readNetDev: async (netns) => await kernel.readInNetns({ netns, path: '/proc/thread-self/net/dev' }),
      run,
      logger: pino({ level: 'silent' }),
    },
  )
})
afterEach(async () => {
  await stats[Symbol.asyncDispose]()
  await reader[Symbol.asyncDispose]()
  await kernel[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true })
})

/** Within 5 %. */
function expectClose(actual: number | null | undefined, truth: number): void {
  expect(actual).toBeGreaterThan(truth * 0.95)
  expect(actual).toBeLessThan(truth * 1.05)
}

describe('a container with a known load', () => {
  it('has the CPU time, the memory and the processes of that load', async () => {
    await using cgroup = new TestCgroup('load')
    source.containerTargets = [containerTarget('c', { cgroupPath: cgroup.path })]
    const load = await cgroup.run({}, '/usr/bin/perl', '-e', BURN_AND_FILL)
    await cgroup.run({ nested: true }, '/bin/sleep', '600')
    expect(await load.line()).toBe('burnt')
    expect(await load.line()).toBe('filled')
    const { cgroup: reading } = await stats.container(idOf('c'), never)
    expectClose(reading?.cpu?.usageNs, cpuTimeNs(load.pid))
    expectClose(reading?.memory?.rssBytes, statusBytes(load.pid, 'RssAnon'))
    expectClose(reading?.memory?.workingSetBytes, statusBytes(load.pid, 'RssAnon'))
    expect(reading?.processCount).toBe(2)
  })

  it('has the CPU in use of that load', async () => {
    await using cgroup = new TestCgroup('rate')
    source.containerTargets = [containerTarget('c', { cgroupPath: cgroup.path })]
    const load = await cgroup.run({}, '/usr/bin/perl', '-e', BURN)
    expect(await load.line()).toBe('burning')
    const now = () => ({ cpu: cpuTimeNs(load.pid), time: performance.now() * 1e6 })
    const beforeFirst = now()
    await stats.container(idOf('c'), never)
    const afterFirst = now()
    // A reading that took long is good for longer.
    await sleep(slowed(3000))
    const beforeSecond = now()
    const { usageNanoCores } = await stats.container(idOf('c'), never)
    const afterSecond = now()
    // The readings lie somewhere between: as little and as much as it can have been.
    const least = (beforeSecond.cpu - afterFirst.cpu) / (afterSecond.time - beforeFirst.time)
    const most = (afterSecond.cpu - beforeFirst.cpu) / (beforeSecond.time - afterFirst.time)
    expect(usageNanoCores).toBeGreaterThan(least * 1e9 * 0.95)
    expect(usageNanoCores).toBeLessThan(most * 1e9 * 1.05)
  })

  it('has the descriptors and limits of its processes among its metrics', async () => {
    await using cgroup = new TestCgroup('detail')
    const idle = await cgroup.run({}, '/bin/sh', '-c', 'ulimit -Sn 77; exec 5</dev/null; echo ready; read x <&1')
    expect(await idle.line()).toBe('ready')
    source.sandboxTargets = [sandboxTarget('a')]
    source.containerTargets = [containerTarget('c', { cgroupPath: cgroup.path, pid: idle.pid })]
    const [pod] = await stats.metrics(never)
    expect(pod?.fileSystem?.totalBytes).toBeGreaterThan(0)
    const detail = pod?.containers[0]?.cgroup?.detail
    // Input, output, errors, and one more; what the shell itself needs beside them is its own.
    expect(detail?.processes.fileDescriptors).toBeGreaterThanOrEqual(4)
    expect(detail?.processes).toMatchObject({ threads: 1, openFilesLimit: '77' })
    // The kernel adds up the faults of a cgroup now and then.
    expect(detail?.memory?.faults.all).toBeGreaterThanOrEqual(0)
  })

  it('has the space and the inodes of its writable layer', async () => {
    for (let index = 0; index < 10; index++) writeFileSync(join(directory, String(index)), Buffer.alloc(MIB, index))
    writeFileSync(join(directory, 'sparse'), '')
    truncateSync(join(directory, 'sparse'), 1024 * MIB)
    source.containerTargets = [containerTarget('c', { running: false, upperDir: directory })]
    // An answer waits only so long for a layer.
    const layer = async () => (await stats.container(idOf('c'), never)).writableLayer
    const writableLayer = await eventually(layer, (found) => found?.usedBytes !== undefined)
    expectClose(writableLayer?.usedBytes, 10 * MIB)
    expect(writableLayer?.inodesUsed).toBe(12)
  })

  it('is left out when it ends between two readings', async () => {
    await using stays = new TestCgroup('stays')
    source.containerTargets = [containerTarget('c', { cgroupPath: stays.path })]
    {
      await using goes = new TestCgroup('goes')
      source.containerTargets.push(containerTarget('d', { cgroupPath: goes.path }))
      expect(await stats.containers({}, never)).toHaveLength(2)
    }
    // What was read a moment ago is still good.
    const ids = async () => (await stats.containers({}, never)).map(({ target }) => target.id)
    expect(await eventually(ids, ({ length }) => length === 1)).toEqual([idOf('c')])
  })
})

describe('a pod with known traffic', () => {
  const [near, far] = [`sbx-stats-a-${process.pid}`, `sbx-stats-b-${process.pid}`]
  const ip = async (...args: readonly string[]) => await runOk('ip', args, { timeoutMs: 10_000 })

  beforeEach(async () => {
    await ip('netns', 'add', near)
    await ip('netns', 'add', far)
    await ip('-n', near, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', far)
    for (const [netns, address] of [
      [near, '10.99.0.1/24'],
      [far, '10.99.0.2/24'],
    ] as const) {
      await ip('-n', netns, 'address', 'add', address, 'dev', 'eth0')
      await ip('-n', netns, 'link', 'set', 'eth0', 'up')
    }
  })
  afterEach(async () => {
    await ip('netns', 'delete', near)
    await ip('netns', 'delete', far)
  })

  it('counts it, through the pod’s process and through the pin alone, and nothing of the node', async () => {
    await using cgroup = new TestCgroup('net')
    const netnsPath = `/run/netns/${near}`
    const pause = await cgroup.run({ netns: netnsPath }, '/bin/sh', '-c', 'echo ready; exec sleep 600')
    expect(await pause.line()).toBe('ready')
    const packets = 500
    const ping = ['ping', '-q', '-f', '-c', String(packets), '-s', '1000', '10.99.0.1']
    await runOk('ip', ['netns', 'exec', far, ...ping], { timeoutMs: 30_000 })
    source.sandboxTargets = [
      sandboxTarget('a', { netnsPath, pid: pause.pid, cgroupPath: cgroup.path }),
      sandboxTarget('b', { netnsPath, pid: null, cgroupPath: '' }),
      // A pid that somebody else has by now.
      sandboxTarget('c', { netnsPath, pid: process.pid, cgroupPath: '' }),
      sandboxTarget('d', { netnsPath: '', pid: process.pid, cgroupPath: '' }),
    ]
    const pods = await stats.sandboxes({}, never)
    expect(pods.at(3)?.network).toBe(null)
    for (const pod of pods.slice(0, 3)) {
      const [eth0, ...others] = pod.network?.interfaces ?? []
      expect([eth0?.name, others]).toEqual(['eth0', []])
      // Payload, and the headers of ICMP, IP and Ethernet.
      const bytes = packets * (1000 + 8 + 20 + 14)
      expectClose(eth0?.rxBytes, bytes)
      expectClose(eth0?.txBytes, bytes)
      expectClose(eth0?.rxPackets, packets)
    }
  })
})
