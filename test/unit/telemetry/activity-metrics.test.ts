import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import type { Activity } from '../../../src/core/observer.ts'
import { Metrics } from '../../../src/telemetry/metrics.ts'

function openMetrics(): Metrics {
  return new Metrics({ version: '1.2.3' }, { readUsage: async () => ({ openFds: 20, maxFds: 1024, threads: 11 }) })
}

/** The lines of one metric, without comments. */
async function linesOf(metrics: Metrics, name: string): Promise<string[]> {
  return (await metrics.text())
    .split('\n')
    .filter((line) => line.startsWith(name) && /[ {]/.test(line[name.length] ?? ''))
}

const rpc: Activity = { kind: 'rpc', name: 'Version', service: 'runtime.v1.RuntimeService', header: () => undefined }

describe('ActivityMetrics', () => {
  using metrics = openMetrics()
  afterEach(() => {
    vi.useRealTimers()
  })

  it('gives back what came of the work, and counts it by how it ended', async () => {
    await expect(metrics.activities.run(rpc, async () => 42)).resolves.toBe(42)
    const error = new CodedError('NotFound', 'there is none')
    await expect(metrics.activities.run(rpc, async () => Promise.reject(error))).rejects.toBe(error)
    const labels = 'service="runtime.v1.RuntimeService",method="Version"'
    const counts = await linesOf(metrics, 'sandboxerd_rpc_duration_seconds_count')
    expect(counts).toEqual([
      `sandboxerd_rpc_duration_seconds_count{${labels},code="OK"} 1`,
      `sandboxerd_rpc_duration_seconds_count{${labels},code="NotFound"} 1`,
    ])
  })

  it('never has an id in a label', async () => {
    const id = 'f00d'.repeat(16)
    const all: Activity[] = [
      { kind: 'operation', name: 'stop', id },
      { kind: 'step', name: 'save', operation: 'run', id },
      { kind: 'cni', name: 'ADD', plugin: 'bridge', id },
      { kind: 'runtime', name: 'create', runtime: 'crun', id },
      { kind: 'sandboxer', name: 'Start', sandboxer: 'vm', id },
      { kind: 'store', name: 'commit', id },
      { kind: 'image', name: 'pull', id },
    ]
    for (const activity of all) await metrics.activities.run(activity, async () => undefined)
    const text = await metrics.text()
    expect(text).not.toContain(id)
    expect(text).toContain('sandboxerd_step_duration_seconds_count{operation="run",step="save",code="OK"} 1')
    expect(text).toContain('sandboxerd_cni_plugin_duration_seconds_count{plugin="bridge",command="ADD",code="OK"} 1')
  })

  it('knows what is under way, at which steps, and what waits', async () => {
    const { promise, resolve } = withResolvers()
    const { activities } = metrics
    const operation = activities.run({ kind: 'operation', name: 'run', id: 'a' }, () =>
      activities.run({ kind: 'step', name: 'setupSandboxNetwork', operation: 'run', id: 'a' }, () => promise),
    )
    const next = activities.run({ kind: 'operation', name: 'stop', id: 'a', waitsFor: () => 'run' }, () => promise)
    expect(activities.operations()).toMatchObject([
      { id: 'a', name: 'run', steps: ['setupSandboxNetwork'] },
      { id: 'a', name: 'stop', steps: ['queue'] },
    ])
    expect(await linesOf(metrics, 'sandboxerd_operations_in_flight')).toEqual([
      'sandboxerd_operations_in_flight{operation="stop"} 1',
      'sandboxerd_operations_in_flight{operation="run"} 1',
    ])
    resolve()
    await Promise.all([operation, next])
    expect(activities.operations()).toEqual([])
    expect(await linesOf(metrics, 'sandboxerd_operations_in_flight')).toContain(
      'sandboxerd_operations_in_flight{operation="run"} 0',
    )
  })

  it('tells how long the oldest operation of a step has been stalled, from 30 seconds on', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    const { promise, resolve } = withResolvers()
    const { activities } = metrics
    const begin = (id: string): Promise<void> =>
      activities.run({ kind: 'operation', name: 'run', id }, () =>
        activities.run({ kind: 'step', name: 'createController', operation: 'run', id }, () => promise),
      )
    const all = [begin('old')]
    vi.advanceTimersByTime(29_000)
    expect(await linesOf(metrics, 'sandboxerd_operation_stalled_seconds')).toEqual([])
    all.push(begin('young'))
    vi.advanceTimersByTime(31_000)
    expect(await linesOf(metrics, 'sandboxerd_operation_stalled_seconds')).toEqual([
      'sandboxerd_operation_stalled_seconds{operation="run",step="createController"} 60',
    ])
    resolve()
    await Promise.all(all)
    expect(await linesOf(metrics, 'sandboxerd_operation_stalled_seconds')).toEqual([])
  })
})

describe('Metrics', () => {
  it('tells of the process, and of the node once it is known', async () => {
    using metrics = openMetrics()
    expect(await linesOf(metrics, 'sandboxerd_sandboxes')).toEqual([])
    expect(await linesOf(metrics, 'sandboxerd_process_open_fds')).toEqual(['sandboxerd_process_open_fds 20'])
    const counts = { states: { RUNNING: 2, STOPPED: 0 }, quarantined: 1, owed: 0 }
    metrics.watch({
      sandboxes: () => counts,
      containers: () => ({ ...counts, owed: 3 }),
      ledger: () => [
        { kind: 'netns', state: 'held' },
        { kind: 'netns', state: 'held' },
      ],
      warmShims: () => 1,
      streamingSessions: () => 4,
      networkReady: () => false,
      runtimeReady: () => true,
      recovered: () => true,
      sandboxers: async () => [{ name: 'vm', reachable: false, latencyMs: null }],
      watchdogPings: () => 7,
    })
    const text = await metrics.text()
    for (const line of [
      'sandboxerd_sandboxes{state="RUNNING"} 2',
      'sandboxerd_sandboxes{state="STOPPED"} 0',
      'sandboxerd_owed_releases{subject="container"} 3',
      'sandboxerd_quarantined{subject="sandbox"} 1',
      'sandboxerd_ledger_entries{kind="netns",state="held"} 2',
      'sandboxerd_ledger_entries{kind="netns",state="releasing"} 0',
      'sandboxerd_network_ready 0',
      'sandboxerd_runtime_ready 1',
      'sandboxerd_sandboxer_up{sandboxer="vm"} 0',
      'sandboxerd_watchdog_pings_total 7',
      `sandboxerd_build_info{version="1.2.3",node_version="${process.versions.node}"} 1`,
    ]) {
      expect(text.split('\n')).toContain(line)
    }
  })

  it('tells of an event loop that was blocked', async () => {
    using metrics = openMetrics()
    await sleep(120)
    const end = performance.now() + 200
    while (performance.now() < end);
    await sleep(120)
    const [, , max = ''] = await linesOf(metrics, 'sandboxerd_event_loop_delay_seconds')
    expect(max).toContain('stat="max"')
    expect(Number(max.split(' ')[1])).toBeGreaterThan(0.1)
    expect(Number(max.split(' ')[1])).toBeLessThan(2)
  })

  it('answers although the kernel cannot be asked', async () => {
    using metrics = new Metrics({ version: '' }, { readUsage: async () => Promise.reject(new Error('EMFILE')) })
    expect(await metrics.text()).toContain('sandboxerd_process_resident_memory_bytes')
  })
})

function withResolvers(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => undefined
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
