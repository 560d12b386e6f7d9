import { status } from '@grpc/grpc-js'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { metricDescriptors, toPodSandboxMetrics } from '../../../src/cri/metric-messages.ts'
import { readCgroup } from '../../../src/stats/cgroup-reader.ts'
import type { CgroupReading } from '../../../src/stats/cgroup-reading.ts'
import { parseNetDev } from '../../../src/stats/net-dev.ts'
import { findTarget } from '../../../src/stats/targets.ts'
import type { ContainerSample, MetricsSample, SandboxSample, Stats } from '../../../src/stats/types.ts'
import { cgroupReading, containerTarget, idOf, sandboxTarget } from '../../support/fake-stats.ts'
import { startStatsServer } from './cri-server.ts'
import { makeMachine, PATH } from './trees.ts'

const RESOURCES = {
  cpu_period: '100000',
  cpu_quota: '20000',
  cpu_shares: '1024',
  memory_limit_in_bytes: '67108864',
  oom_score_adj: '0',
  cpuset_cpus: '',
  cpuset_mems: '',
  hugepage_limits: [],
  unified: { 'memory.min': '4096' },
  memory_swap_limit_in_bytes: '67108864',
}

function sampleOf(cgroup: CgroupReading | null, id = 'c1', annotations = {}): ContainerSample {
  return {
    target: containerTarget(id, { resources: RESOURCES, annotations }),
    cgroup,
    usageNanoCores: 123,
    writableLayer: { atNs: 5n, usedBytes: 8192, inodesUsed: 2 },
  }
}

function podOf(containers: readonly ContainerSample[]): SandboxSample {
  const { cpu, memory, io, processCount } = cgroupReading(2 ** 60, 4096)
  const network = {
    ...parseNetDev(' net1: 1 1 2 0 0 0 0 0 3 3 4 0 0 0 0 0\n eth0: 5 5 6 0 0 0 0 0 7 7 8 0 0 0 0 0\n'),
    atNs: 9n,
  }
  return { target: sandboxTarget('a'), cpu, usageNanoCores: null, memory, io, processCount, network, containers }
}

/** Always the same lists. */
function statsOf(
  containers: readonly ContainerSample[],
  pods: readonly SandboxSample[],
  metrics: readonly MetricsSample[] = [],
): Stats {
  const byId = (sample: { readonly target: { readonly id: string } }) => ({ id: sample.target.id, sample })
  return {
    container: async (id) =>
      findTarget(
        'container',
        containers.map((one) => ({ ...byId(one), sample: one })),
        id,
      ).sample,
    sandbox: async (id) =>
      findTarget(
        'sandbox',
        pods.map((one) => ({ ...byId(one), sample: one })),
        id,
      ).sample,
    containers: async () => containers,
    sandboxes: async () => pods,
    metrics: async () => metrics,
  }
}

function read(kind: 'v1' | 'hybrid' | 'v2'): CgroupReading | null {
  const root = mkdtempSync(join(tmpdir(), 'sandboxerd-cgroups-'))
  try {
    return readCgroup(makeMachine(root, kind), { cgroupPath: PATH, pid: 11, detail: true })
  } finally {
    rmSync(root, { recursive: true })
  }
}

describe('ContainerStats', () => {
  it('shows everything that was read', async () => {
    await using server = await startStatsServer(statsOf([sampleOf(read('v2'))], []))
    const stats = await server.client.container('c1')
    expect(stats.attributes).toEqual({
      id: idOf('c1'),
      metadata: { name: 'name-c1', attempt: 0 },
      labels: {},
      annotations: {},
    })
    expect(stats.cpu).toMatchObject({
      usage_core_nano_seconds: { value: '1500000000' },
      usage_nano_cores: { value: '123' },
    })
    expect(stats.cpu?.psi?.Some).toEqual({ Total: '1000000', Avg10: 1.5, Avg60: 0.75, Avg300: 0.1 })
    expect(stats.memory).toMatchObject({
      usage_bytes: { value: '16777216' },
      working_set_bytes: { value: '13631488' },
      available_bytes: { value: '53477376' },
      rss_bytes: { value: '4194304' },
      page_faults: { value: '1234' },
      major_page_faults: { value: '12' },
    })
    expect(stats.swap).toMatchObject({
      swap_usage_bytes: { value: '524288' },
      swap_available_bytes: { value: '524288' },
    })
    expect(stats.io?.psi?.Full?.Total).toBe('700000')
    expect(stats.writable_layer).toEqual({
      timestamp: '5',
      fs_id: { mountpoint: '/layers' },
      used_bytes: { value: '8192' },
      inodes_used: { value: '2' },
    })
    expect(BigInt(stats.cpu?.timestamp ?? 0)).toBeGreaterThan(1_700_000_000_000_000_000n)
  })

  it('leaves out what is not known, for one that does not run', async () => {
    await using server = await startStatsServer(statsOf([{ ...sampleOf(null), writableLayer: null }], []))
    const { cpu, memory, swap, io, writable_layer: layer } = await server.client.container('c1')
    expect([cpu, memory, swap, io, layer]).toEqual([null, null, null, null, null])
  })

  it('refuses what is no id and what nobody has', async () => {
    await using server = await startStatsServer(statsOf([], []))
    await expect(server.client.container('')).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
    await expect(server.client.container('b')).rejects.toMatchObject({ code: status.NOT_FOUND })
    await expect(server.client.pod('b')).rejects.toMatchObject({ code: status.NOT_FOUND })
  })
})

describe('PodSandboxStats', () => {
  it('shows the pod, its interfaces and its containers', async () => {
    await using server = await startStatsServer(statsOf([], [podOf([sampleOf(cgroupReading(1, 1))])]))
    const { attributes, linux } = await server.client.pod('a')
    expect(attributes?.metadata).toEqual({ name: 'pod-a', namespace: 'default', uid: 'uid-a', attempt: 0 })
    // Above 2^53.
    expect(linux?.cpu?.usage_core_nano_seconds?.value).toBe((2n ** 60n).toString())
    expect(linux?.cpu?.usage_nano_cores).toBe(null)
    expect(linux?.process?.process_count?.value).toBe('2')
    expect(linux?.network?.default_interface).toMatchObject({
      name: 'eth0',
      rx_bytes: { value: '5' },
      rx_errors: { value: '6' },
      tx_bytes: { value: '7' },
      tx_errors: { value: '8' },
    })
    expect(linux?.network?.interfaces.map(({ name }) => name)).toEqual(['net1', 'eth0'])
    expect(linux?.containers.map((container) => container.attributes?.id)).toEqual([idOf('c1')])
  })
})

describe('lists', () => {
  it('are encoded once for all who get the same', async () => {
    const containers = [sampleOf(cgroupReading(1, 1))]
    await using server = await startStatsServer(statsOf(containers, [podOf(containers)]))
    await Promise.all(Array.from({ length: 20 }, () => server.client.pods()))
    await Promise.all(Array.from({ length: 20 }, () => server.client.containers()))
    expect(server.encoded).toEqual({ ListContainerStats: 1, ListPodSandboxStats: 1, ListPodSandboxMetrics: 0 })
  })

  it('that do not fit a message are refused, and streamed whole', async () => {
    const annotations = { big: 'x'.repeat(100_000) }
    const ids = Array.from({ length: 250 }, (_, index) => idOf(`c${index}x`))
    const containers = ids.map((id) => sampleOf(cgroupReading(1, 1), id, annotations))
    await using server = await startStatsServer(statsOf(containers, [podOf([])]))
    await expect(server.client.containers()).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      details: expect.stringContaining('use StreamContainerStats') as string,
    })
    expect((await server.client.streamed()).containers).toEqual(ids)
  })
})

describe('metrics', () => {
  const metricsOf = (kind: 'v1' | 'hybrid' | 'v2'): MetricsSample => ({
    target: sandboxTarget('a'),
    network: podOf([]).network,
    containers: [sampleOf(read(kind))],
    fileSystem: { device: '/dev/sda1', totalBytes: 1000, totalInodes: 100, freeInodes: 60 },
  })
  const emitted = (sample: MetricsSample) => {
    const { metrics = [], container_metrics: containers = [] } = toPodSandboxMetrics(sample)
    return [...(metrics ?? []), ...(containers ?? []).flatMap((container) => container.metrics ?? [])]
  }

  it('have exactly the names and numbers of labels that the descriptors tell', () => {
    const descriptors = new Map(metricDescriptors().map(({ name, label_keys: keys }) => [name, keys?.length]))
    const all = (['v1', 'v2'] as const).flatMap((kind) => emitted(metricsOf(kind)))
    expect(new Set(all.map(({ name }) => name))).toEqual(new Set(descriptors.keys()))
    for (const { name, label_values: values } of all) expect(values?.length, name).toBe(descriptors.get(name))
    for (const { name, help } of metricDescriptors()) expect(help, name).not.toBe('')
    expect(descriptors.size).toBe(metricDescriptors().length)
  })

  it('are one series each', () => {
    for (const kind of ['v1', 'hybrid', 'v2'] as const) {
      const series = emitted(metricsOf(kind)).map(({ name, label_values: values }) => `${name} ${values?.join(' ')}`)
      expect(new Set(series).size).toBe(series.length)
    }
  })

  it('are what was read', async () => {
    await using server = await startStatsServer(statsOf([], [], [metricsOf('v2')]))
    const [pod] = await server.client.metrics()
    const values = new Map(
      [...(pod?.metrics ?? []), ...(pod?.container_metrics[0]?.metrics ?? [])].map((metric) => [
        `${metric.name}{${metric.label_values.slice(5).join()}}`,
        `${metric.metric_type} ${metric.value?.value}`,
      ]),
    )
    expect(Object.fromEntries(values)).toMatchObject({
      'container_cpu_usage_seconds_total{total}': 'COUNTER 1',
      'container_memory_working_set_bytes{}': 'GAUGE 13631488',
      'container_memory_failures_total{pgmajfault,hierarchy}': 'COUNTER 12',
      'container_oom_events_total{}': 'COUNTER 1',
      'container_network_transmit_errors_total{eth0}': 'COUNTER 8',
      'container_fs_usage_bytes{/dev/sda1}': 'GAUGE 8192',
      'container_fs_inodes_free{/dev/sda1}': 'GAUGE 60',
      'container_fs_writes_bytes_total{/dev/sda}': 'COUNTER 8192',
      'container_blkio_device_usage_total{/dev/sda,8,0,Write}': 'COUNTER 8192',
      'container_threads_max{}': 'GAUGE 100',
      'container_ulimits_soft{max_open_files}': 'GAUGE 1024',
      'container_spec_cpu_quota{}': 'GAUGE 20000',
      'container_spec_memory_reservation_limit_bytes{}': 'GAUGE 4096',
      'container_start_time_seconds{}': 'GAUGE 1763692200',
    })
    expect(pod?.container_metrics[0]?.metrics[0]?.label_values.slice(0, 5)).toEqual([
      'pod-a',
      'default',
      'name-c1',
      idOf('c1'),
      'registry/image:1',
    ])
    expect((await server.client.descriptors())[0]?.label_keys.slice(0, 5)).toEqual([
      'pod',
      'namespace',
      'container',
      'id',
      'image',
    ])
    expect((await server.client.streamed()).metrics).toEqual([idOf('a')])
  })
})
