import { setTimeout as sleep } from 'node:timers/promises'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { cgroupFile } from '../../support/cgroup-files.ts'
import { sharedDaemon } from '../../support/daemon.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

const MIB = 1024 * 1024
/** What was asked for was collected a moment ago at most. */
const FRESH_MS = 1500

const pod = (handler = 'crun-pinned'): Promise<TestPod> => TestPod.run(daemon(), handler)
/** Whether the container has come to the `sleep` at its end. */
const SLEEPS = 'ps | grep -c "root *sleep 1000$" || true'
const number = (value: { value: string } | null | undefined): number => Number(value?.value ?? Number.NaN)

describe('the statistics of a container', () => {
  it('tell the CPU time that the kernel tells, within five per cent', async () => {
    const own = await pod()
    const id = await own.start({
      command: ['/bin/sh', '-c', 'i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; sleep 1000'],
    })
    const { stats, containers } = daemon().client
    const { pid } = await containers.info(id)
    const used = (): number => {
      const text = cgroupFile(pid, 'cpuacct.usage', 'cpu.stat')
      return text.includes('usage_usec') ? Number(/usage_usec (\d+)/.exec(text)?.[1]) * 1000 : Number(text)
    }
    await expect.poll(() => containers.shell(id, SLEEPS), { timeout: 30_000 }).toBe('1')
    await sleep(FRESH_MS)
    const { cpu, attributes } = await stats.container(id)
    const told = number(cpu?.usage_core_nano_seconds)
    expect(told / used()).toBeGreaterThan(0.95)
    expect(told / used()).toBeLessThan(1.05)
    expect(attributes).toMatchObject({ id, metadata: { attempt: 0 } })
  })

  it('tell how busy it is now', async () => {
    const own = await pod()
    const id = await own.start({
      command: ['/bin/sh', '-c', 'while :; do :; done'],
      resources: { cpu_quota: '20000', cpu_period: '100000' },
    })
    const { stats } = daemon().client
    await stats.container(id)
    await sleep(3000)
    const { cpu } = await stats.container(id)
    const cores = number(cpu?.usage_nano_cores) / 1e9
    expect(cores).toBeGreaterThan(0.1)
    expect(cores).toBeLessThan(0.25)
  })

  it('tell memory, the writable layer and the limit', async () => {
    const own = await pod()
    const script = `head -c ${20 * MIB} /dev/zero >/dev/shm/file; head -c ${10 * MIB} /dev/zero >/file; sleep 1000`
    const id = await own.start({
      command: ['/bin/sh', '-c', script],
      resources: { memory_limit_in_bytes: String(100 * MIB) },
    })
    const { stats, containers } = daemon().client
    await expect.poll(() => containers.shell(id, SLEEPS), { timeout: 30_000 }).toBe('1')
    await sleep(FRESH_MS)
    const { memory, writable_layer: layer } = await stats.container(id)
    expect(number(memory?.working_set_bytes)).toBeGreaterThan(20 * MIB)
    expect(number(memory?.working_set_bytes)).toBeLessThan(50 * MIB)
    expect(number(memory?.available_bytes)).toBeLessThanOrEqual(80 * MIB)
    expect(number(memory?.usage_bytes)).toBeGreaterThanOrEqual(number(memory?.working_set_bytes))
    expect(layer?.fs_id?.mountpoint).toMatch(/^\//)
    await expect
      .poll(async () => number((await stats.container(id)).writable_layer?.used_bytes), {
        timeout: 30_000,
        interval: 500,
      })
      .toBeGreaterThanOrEqual(10 * MIB)
    expect(number((await stats.container(id)).writable_layer?.used_bytes)).toBeLessThan(10.5 * MIB)
  })

  it('are there for each that runs, by id, pod and label', async () => {
    const { stats } = daemon().client
    const [mine, other] = [await pod(), await pod('crun')]
    const a = await mine.start({ labels: { app: 'a' } })
    const b = await mine.start({ labels: { app: 'b' } })
    const c = await other.start({ labels: { app: 'a' } })
    const ids = async (filter?: Parameters<typeof stats.containers>[0]): Promise<string[]> =>
      (await stats.containers(filter)).map(({ attributes }) => attributes?.id ?? '').sort()
    expect(await ids()).toEqual([a, b, c].sort())
    expect(await ids({ id: b })).toEqual([b])
    expect(await ids({ pod_sandbox_id: mine.id })).toEqual([a, b].sort())
    expect(await ids({ label_selector: { app: 'a' } })).toEqual([a, c].sort())
    await expect(stats.container('7'.repeat(64))).rejects.toMatchObject({ code: grpc.NOT_FOUND })
    const { containers, pods, metrics } = await stats.streamed()
    expect(containers.sort()).toEqual([a, b, c].sort())
    expect(pods.sort()).toEqual([mine.id, other.id].sort())
    expect(metrics.sort()).toEqual([mine.id, other.id].sort())
  })
})

describe('the statistics of a pod', () => {
  it('tell of its network, its processes and its containers', async () => {
    const own = await TestPod.run(daemon(), 'crun', daemon().pod())
    const id = await own.start({ command: ['/bin/sh', '-c', 'sleep 1000 & sleep 1000'] })
    const { stats } = daemon().client
    const before = await stats.pod(own.id)
    const gateway = '10.64.0.1'
    await daemon().client.containers.exec(id, ['/bin/ping', '-c', '20', '-i', '0.05', '-s', '10000', gateway], 10)
    await sleep(FRESH_MS)
    const after = await stats.pod(own.id)
    const sent = (of: typeof after): number => number(of.linux?.network?.default_interface?.tx_bytes)
    expect(after.linux?.network?.default_interface?.name).toBe('eth0')
    expect(sent(after) - sent(before)).toBeGreaterThan(200_000)
    expect(sent(after) - sent(before)).toBeLessThan(230_000)
    expect(number(after.linux?.process?.process_count)).toBeGreaterThanOrEqual(3)
    expect(after.linux?.containers.map(({ attributes }) => attributes?.id)).toEqual([id])
    expect(after.attributes).toMatchObject({ id: own.id, metadata: own.config.metadata })
    expect((await stats.pods({ id: own.id })).map(({ attributes }) => attributes?.id)).toEqual([own.id])
  })
})

describe('metrics', () => {
  it('have the descriptors that are listed, and all their labels', async () => {
    const own = await TestPod.run(daemon(), 'crun', daemon().pod())
    await own.start()
    const { stats } = daemon().client
    const descriptors = new Map((await stats.descriptors()).map(({ name, label_keys: keys }) => [name, keys]))
    const pods = await stats.metrics()
    expect(pods.map((of) => of.pod_sandbox_id)).toEqual([own.id])
    const all = pods.flatMap((of) => [...of.metrics, ...of.container_metrics.flatMap(({ metrics }) => metrics)])
    expect(all.length).toBeGreaterThan(10)
    for (const { name, label_values: values } of all) {
      expect(descriptors.has(name), name).toBe(true)
      expect(values, name).toHaveLength(descriptors.get(name)?.length ?? -1)
    }
  })
})
