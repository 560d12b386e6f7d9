import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { beforeEach, describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import { loadShimApi } from '../../../src/grpc/load.ts'
import { NodeStats } from '../../../src/stats/node-stats.ts'
import { ToldReadings } from '../../../src/stats/told-readings.ts'
import {
  cgroupReading,
  containerTarget,
  FakeReader,
  FakeSource,
  idOf,
  sandboxTarget,
} from '../../support/fake-stats.ts'

const never = new AbortController().signal
const NET_DEV = 'a|b\nc|d\n lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n eth0: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n'

let source: FakeSource
let reader: FakeReader
let askedNetns: string[]
beforeEach(() => {
  source = new FakeSource()
  reader = new FakeReader()
  askedNetns = []
})

function open(minIntervalMs = 60_000): NodeStats {
  return new NodeStats(
    { minIntervalMs, writableLayerIntervalMs: 60_000, layersPath: '/layers' },
    {
      source,
      reader,
      told: new ToldReadings({ messages: loadShimApi(), logger: pino({ level: 'silent' }) }),
      logger: pino({ level: 'silent' }),
      readNetDev: async (path) => {
        askedNetns.push(path)
        if (path.endsWith('gone')) throw new Error('no such namespace')
        return NET_DEV
      },
      run: async () => {
        throw new CodedError('Unavailable', 'no program')
      },
    },
  )
}

/** A pod `a` with two containers and a pause process. */
function addPod(changes: Parameters<typeof sandboxTarget>[1] = {}): void {
  source.sandboxTargets = [sandboxTarget('a', changes)]
  source.containerTargets = [containerTarget('c1'), containerTarget('c2')]
  reader.cgroups.set('/pods/c1', cgroupReading(1000, 4096))
  reader.cgroups.set('/pods/c2', cgroupReading(200, 8192))
  reader.cgroups.set('/pods/pause-a', cgroupReading(30, 1024))
}

describe('NodeStats.sandboxes', () => {
  it('adds up the containers and the pause process of a pod without a cgroup of its own', async () => {
    addPod()
    const [pod] = await open().sandboxes({}, never)
    expect(pod).toMatchObject({
      cpu: { usageNs: 1230 },
      memory: { usageBytes: 13_312, workingSetBytes: 6656 },
      processCount: 6,
      network: null,
    })
    expect(pod?.containers.map(({ target }) => target.id)).toEqual([idOf('c1'), idOf('c2')])
  })

  it('takes the cgroup of the pod where it has one', async () => {
    addPod({ cgroupParent: '/pods' })
    reader.cgroups.set('/pods', cgroupReading(5000, 65_536))
    const [pod] = await open().sandboxes({}, never)
    expect(pod).toMatchObject({ cpu: { usageNs: 5000 }, memory: { usageBytes: 65_536 }, processCount: 2 })
    expect(pod?.containers).toHaveLength(2)
  })

  it('does not take a cgroup that two pods share for that of one', async () => {
    addPod({ cgroupParent: '/pods' })
    source.sandboxTargets.push(sandboxTarget('b', { cgroupParent: '/pods' }))
    reader.cgroups.set('/pods', cgroupReading(5000, 65_536))
    reader.cgroups.set('/pods/pause-b', cgroupReading(7, 1))
    const pods = await open().sandboxes({}, never)
    expect(pods.map(({ cpu }) => cpu?.usageNs)).toEqual([1230, 7])
  })

  it('reads the network of a pod that only a pin leads to, and never that of the node', async () => {
    addPod({ pid: null, cgroupPath: '', netnsPath: '/run/netns/a' })
    source.sandboxTargets.push(
      sandboxTarget('b', { netnsPath: '/run/netns/gone' }),
      sandboxTarget('e', { netnsPath: '' }),
    )
    const pods = await open().sandboxes({}, never)
    expect(
      pods.map(({ network }) => network?.interfaces.map(({ name, rxBytes, txBytes }) => [name, rxBytes, txBytes])),
    ).toEqual([[['eth0', 10, 20]], undefined, undefined])
    expect(askedNetns).toEqual(['/run/netns/a', '/run/netns/gone'])
  })

  it('collects once for 20 callers, gives them the same list, and reads again after the interval', async () => {
    addPod()
    const stats = open(1000)
    reader.inTheWay = async () => await sleep(5)
    const lists = await Promise.all(Array.from({ length: 20 }, () => stats.sandboxes({}, new AbortController().signal)))
    expect(new Set(lists).size).toBe(1)
    // One for the pods, one for the containers.
    expect(reader.reads).toHaveLength(2)
    await sleep(1100)
    const later = await stats.sandboxes({}, never)
    expect(reader.reads).toHaveLength(4)
    expect(later).not.toBe(lists[0])
  })

  it('leaves out what is not ready', async () => {
    addPod({ ready: false })
    const stats = open()
    expect(await stats.sandboxes({}, never)).toEqual([])
    expect((await stats.sandbox(idOf('a'), never)).network).toBe(null)
  })
})

describe('NodeStats.containers', () => {
  it('leaves out one whose cgroup is gone, and those that do not run', async () => {
    addPod()
    reader.cgroups.delete('/pods/c1')
    source.containerTargets.push(containerTarget('c3', { running: false }))
    const stats = open()
    const ids = (await stats.containers({}, never)).map(({ target }) => target.id)
    expect(ids).toEqual([idOf('c2')])
    expect((await stats.container(idOf('c3'), never)).cgroup).toBe(null)
  })

  it('shows a new container at once, without reading the others again', async () => {
    addPod()
    const stats = open()
    await stats.containers({}, never)
    source.containerTargets = [...source.containerTargets, containerTarget('c4')]
    reader.cgroups.set('/pods/c4', cgroupReading(1, 1))
    expect(await stats.containers({}, never)).toHaveLength(3)
    expect(reader.reads.map((requests) => requests.length)).toEqual([2, 1])
    source.containerTargets = source.containerTargets.slice(1)
    expect(await stats.containers({}, never)).toHaveLength(2)
  })

  it('filters by id, pod and labels', async () => {
    addPod()
    source.containerTargets.push(containerTarget('d', { sandboxId: idOf('b'), labels: { app: 'web', tier: 'x' } }))
    reader.cgroups.set('/pods/d', cgroupReading(1, 1))
    const stats = open()
    const ids = async (filter: Parameters<typeof stats.containers>[0]) =>
      (await stats.containers(filter, never)).map(({ target }) => target.id)
    expect(await ids({ id: 'c' })).toEqual([idOf('c1'), idOf('c2')])
    expect(await ids({ id: idOf('c2') })).toEqual([idOf('c2')])
    expect(await ids({ sandboxId: idOf('b') })).toEqual([idOf('d')])
    expect(await ids({ labels: { app: 'web' } })).toEqual([idOf('d')])
    expect(await ids({ labels: { app: 'web', tier: 'y' } })).toEqual([])
    expect(await ids({ labels: { toString: 'x' } })).toEqual([])
  })

  it('counts the CPU in use between two readings', async () => {
    addPod()
    const stats = open(1)
    reader.cgroups.set('/pods/c1', cgroupReading(1e9, 1, 10e9))
    const first = await stats.container(idOf('c1'), never)
    await sleep(20)
    reader.cgroups.set('/pods/c1', cgroupReading(2.5e9, 1, 12e9))
    const second = await stats.container(idOf('c1'), never)
    expect([first.usageNanoCores, second.usageNanoCores]).toEqual([null, 0.75e9])
  })
})

describe('NodeStats.container and sandbox', () => {
  it('refuse ids that nobody has and beginnings that fit several', async () => {
    addPod()
    const stats = open()
    await expect(stats.container('ffff', never)).rejects.toMatchObject({ code: 'NotFound' })
    await expect(stats.container('c', never)).rejects.toMatchObject({ code: 'InvalidArgument' })
    await expect(stats.sandbox('b', never)).rejects.toMatchObject({ code: 'NotFound' })
    expect((await stats.container('c1', never)).target.id).toBe(idOf('c1'))
  })

  it('fail when the kernel does not answer, rather than show nothing', async () => {
    addPod()
    const stats = open()
    reader.inTheWay = async () => {
      throw new CodedError('DeadlineExceeded', 'stuck')
    }
    await expect(stats.sandboxes({}, never)).rejects.toMatchObject({ code: 'DeadlineExceeded' })
  })
})

describe('NodeStats of what has no cgroup on this node', () => {
  const { io } = loadShimApi()
  const told = (total: number, usage: number) => ({
    typeUrl: 'io.containerd.cgroups.v1.Metrics',
    value: io.containerd.cgroups.v1.Metrics.serialize({
      cpu: { usage: { total } },
      memory: { usage: { usage, limit: '9223372036854771712' }, total_inactive_file: 10, total_rss: 5 },
      pids: { current: 3 },
    }),
  })

  it('is what whoever runs it tells, and nothing that is not told', async () => {
    source.sandboxTargets = [sandboxTarget('a', { cgroupPath: '' })]
    source.containerTargets = [containerTarget('c1', { askMetrics: async () => told(77, 100) })]
    const [container] = await open().containers({}, never)
    expect(container?.cgroup).toMatchObject({
      cpu: { usageNs: 77 },
      memory: { usageBytes: 100, workingSetBytes: 90, limitBytes: null, rssBytes: 5, swap: null },
      processCount: 3,
      io: null,
      detail: null,
    })
    const [pod] = await open().sandboxes({}, never)
    expect(pod).toMatchObject({ cpu: { usageNs: 77 }, memory: { usageBytes: 100 }, processCount: 3 })
  })

  it('is that of the whole pod where the controller tells it, and the pod has no cgroup here', async () => {
    source.sandboxTargets = [sandboxTarget('a', { cgroupPath: '', askMetrics: async () => told(1000, 4096) })]
    source.containerTargets = [containerTarget('c1', { askMetrics: async () => told(77, 100) })]
    const [pod] = await open().sandboxes({}, never)
    expect(pod).toMatchObject({ cpu: { usageNs: 1000 }, memory: { usageBytes: 4096 } })
  })

  it('is not asked for where there is a cgroup', async () => {
    addPod()
    source.containerTargets = [containerTarget('c1', { askMetrics: () => Promise.reject(new Error('asked')) })]
    const [container] = await open().containers({}, never)
    expect(container?.cgroup?.cpu?.usageNs).toBe(1000)
  })

  it('is left out while nobody answers, and then for nobody else is waited', async () => {
    let asked = 0
    const silent = (signal: AbortSignal): Promise<never> => {
      asked++
      return new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(new Error('aborted')))
      })
    }
    source.containerTargets = [
      containerTarget('c1', { askMetrics: silent }),
      containerTarget('c2', { askMetrics: async () => null }),
      containerTarget('c3', { askMetrics: async () => ({ typeUrl: 'some.Other', value: Buffer.of(1) }) }),
      containerTarget('c4', { askMetrics: async () => told(5, 5) }),
    ]
    const stats = open(0)
    const ids = async (): Promise<unknown> => (await stats.containers({}, never)).map(({ target }) => target.id)
    expect(await ids()).toEqual([idOf('c4')])
    expect(await ids()).toEqual([idOf('c4')])
    expect(asked).toBe(1)
  })
})
