import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { credentials, Metadata } from '@grpc/grpc-js'
import { describe, expect, it, vi } from 'vitest'
import type { PodSandboxConfig } from '../../../src/generated/runtime/v1/PodSandboxConfig.ts'
import type { RunPodSandboxResponse__Output } from '../../../src/generated/runtime/v1/RunPodSandboxResponse.ts'
import { loadCri } from '../../../src/grpc/load.ts'
import { run, runOk } from '../../../src/host/programs/run.ts'
import { unary } from '../../support/cri-calls.ts'
import { ownDaemons, type TestDaemon } from '../../support/daemon.ts'
import { onPath } from '../../support/on-path.ts'
import { NodeReceiver, type ReceivedSpan } from '../../support/otlp-receiver.ts'
import { findShim } from '../../support/peers.ts'
import { eventually } from '../../support/pod-facts.ts'

// A machine may be busy with other things.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })
const startDaemon = ownDaemons()
const shim = findShim()

const { RuntimeService } = loadCri().runtime.v1
// On the node of each daemon there is nobody else.
const COLLECTOR_PORT = 4318
const TRACING = { tracing: { endpoint: `http://127.0.0.1:${COLLECTOR_PORT}` } }
const METRICS = '127.0.0.1:9464'
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const CALLER = '00f067aa0ba902b7'

/** Runs a pod, as a caller that traces, and returns its id. */
async function runTraced(daemon: TestDaemon, config: PodSandboxConfig, handler = ''): Promise<string> {
  const client = new RuntimeService(`unix:${join(daemon.dir, 'cri.sock')}`, credentials.createInsecure())
  const metadata = new Metadata()
  metadata.set('traceparent', `00-${TRACE}-${CALLER}-01`)
  try {
    const { pod_sandbox_id: id } = await unary<RunPodSandboxResponse__Output>({}, (options, done) =>
      client.RunPodSandbox({ config, runtime_handler: handler }, metadata, options, done),
    )
    return daemon.track(id)
  } finally {
    client.close()
  }
}

/** The metrics of a daemon, as they are had on its node. */
async function readMetrics(daemon: TestDaemon): Promise<string> {
  const script = `fetch('http://${METRICS}/metrics').then((response) => response.text()).then((text) => process.stdout.write(text))`
  const args = [`--net=/run/netns/${daemon.node}`, process.execPath, '-e', script]
  const { stdout } = await runOk('/usr/bin/nsenter', args, { timeoutMs: 20_000 })
  return stdout
}

function valueOf(text: string, series: string): number {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `))
  if (line === undefined) throw new Error(`no ${series} in\n${text}`)
  return Number(line.slice(series.length))
}

/** The names from a span up to the root that we know, the span's own first. */
function lineage(spans: readonly ReceivedSpan[], span: ReceivedSpan | undefined): string[] {
  if (!span) return []
  return [
    span.name,
    ...lineage(
      spans,
      spans.find(({ spanId }) => spanId === span.parentSpanId),
    ),
  ]
}

async function spansOfTrace(receiver: NodeReceiver, last: string, service: number): Promise<readonly ReceivedSpan[]> {
  const read = async (): Promise<readonly ReceivedSpan[]> => receiver.spans.filter(({ traceId }) => traceId === TRACE)
  return eventually(read, (spans) => spans.some(({ name, pid }) => name === last && pid === service), 30_000)
}

const RUN_CALL = 'runtime.v1.RuntimeService/RunPodSandbox'
const CREATE_CALL = 'containerd.services.sandbox.v1.Controller/Create'

const promtool = onPath('promtool')
const ALERTS = fileURLToPath(new URL('../../../packaging/observability/alerts.yaml', import.meta.url))

describe('telemetry', () => {
  it.skipIf(!promtool)('has alert rules that Prometheus takes', async () => {
    const { stdout, exitCode } = await run(promtool ?? '', ['check', 'rules', ALERTS], { timeoutMs: 20_000 })
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining('SUCCESS')])
  })

  it('counts what happened, and serves nothing but that', async () => {
    const daemon = await startDaemon({ config: { metrics: { address: METRICS } } })
    const ids = [await daemon.run(daemon.pod()), await daemon.run(daemon.pod())]
    await expect(daemon.client.status('nobody')).rejects.toMatchObject({ code: 5 })
    const text = await readMetrics(daemon)
    const rpc = (method: string, code: string): string =>
      `sandboxerd_rpc_duration_seconds_count{service="runtime.v1.RuntimeService",method="${method}",code="${code}"}`
    expect(valueOf(text, rpc('RunPodSandbox', 'OK'))).toBe(2)
    expect(valueOf(text, rpc('PodSandboxStatus', 'NotFound'))).toBe(1)
    for (const [series, value] of [
      ['sandboxerd_operation_duration_seconds_count{operation="run",code="OK"}', 2],
      ['sandboxerd_operations_in_flight{operation="run"}', 0],
      ['sandboxerd_step_duration_seconds_count{operation="run",step="setupSandboxNetwork",code="OK"}', 2],
      ['sandboxerd_cni_plugin_duration_seconds_count{plugin="bridge",command="ADD",code="OK"}', 2],
      ['sandboxerd_runtime_call_duration_seconds_count{runtime="crun",call="create",code="OK"}', 2],
      ['sandboxerd_sandboxes{state="RUNNING"}', 2],
      ['sandboxerd_ledger_entries{kind="netns",state="held"}', 2],
      ['sandboxerd_owed_releases{subject="sandbox"}', 0],
      ['sandboxerd_network_ready', 1],
      ['sandboxerd_recovered', 1],
    ] as const) {
      expect(valueOf(text, series), series).toBe(value)
    }
    expect(valueOf(text, 'sandboxerd_store_commit_duration_seconds_count{code="OK"}')).toBeGreaterThanOrEqual(4)
    expect(valueOf(text, 'sandboxerd_process_open_fds')).toBeGreaterThan(10)
    for (const id of ids) expect(text).not.toContain(id)
    if (promtool) {
      const checked = await run(promtool, ['check', 'metrics'], { input: text, timeoutMs: 20_000 })
      expect(`${checked.stdout}${checked.stderr}`).toBe('')
    }
    await daemon.removeListed()
    const after = await readMetrics(daemon)
    expect(
      valueOf(after, 'sandboxerd_step_duration_seconds_count{operation="release",step="release cni",code="OK"}'),
    ).toBe(2)
    expect(valueOf(after, 'sandboxerd_sandboxes{state="RUNNING"}')).toBe(0)
    // Who traces nothing has not loaded what it takes.
    expect(daemon.logs()).not.toContain('trace_id')
  })

  it('makes a tree of spans of a RunPodSandbox, in the trace of its caller', async () => {
    const daemon = await startDaemon({ config: TRACING })
    await using receiver = await NodeReceiver.start(daemon.node, COLLECTOR_PORT)
    const id = await runTraced(daemon, daemon.pod())
    const spans = await spansOfTrace(receiver, RUN_CALL, daemon.pid)
    const named = (name: string): ReceivedSpan | undefined => spans.find((span) => span.name === name)
    expect(named(RUN_CALL)).toMatchObject({ parentSpanId: CALLER, failed: false })
    expect(named('run')).toMatchObject({ attributes: { 'sandboxerd.id': id } })
    for (const [name, ...ancestors] of [
      ['run', RUN_CALL],
      ['recordIntent', 'run', RUN_CALL],
      ['store commit', 'recordIntent', 'run', RUN_CALL],
      ['setupSandboxNetwork', 'run', RUN_CALL],
      ['bridge ADD', 'setupSandboxNetwork', 'run', RUN_CALL],
      ['crun create', 'createController', 'run', RUN_CALL],
      ['save', 'run', RUN_CALL],
    ] as const) {
      expect(lineage(spans, named(name))).toEqual([name, ...ancestors])
    }
    const logged = daemon
      .logs()
      .split('\n')
      .filter((line) => line.includes(`"trace_id":"${TRACE}"`))
    expect(logged.join('\n')).toContain(id)
    // The pod's end, which nobody has asked for in that call, is no part of it.
    await daemon.client.stop(id)
    await daemon.client.remove(id)
    expect(await daemon.stop()).toBe(0)
    const operations = receiver.spans.filter(({ name }) => name === 'stop' || name === 'remove')
    expect(operations.map(({ traceId }) => traceId)).not.toContain(TRACE)
    expect(operations.length).toBe(2)
  })

  it.skipIf(shim === undefined)('goes on with the trace at a remote sandboxer, and at its shim', async () => {
    const peer = await startDaemon({ config: { ...TRACING, timeouts: { stop_grace: 1 } } })
    await using receiver = await NodeReceiver.start(peer.node, COLLECTOR_PORT)
    const daemon = await startDaemon({
      node: peer.node,
      config: {
        ...TRACING,
        timeouts: { remote: 2, stop_grace: 1 },
        metrics: { address: METRICS },
        sandboxers: { far: { address: `unix://${join(peer.dir, 'sandboxer.sock')}` } },
        runtimes: { far: { runtime: '/usr/bin/crun', runtime_type: shim, sandboxer: 'far' } },
      },
    })
    peer.peers.add(daemon.pid)
    const id = await runTraced(daemon, daemon.pod(), 'far')
    await spansOfTrace(receiver, CREATE_CALL, peer.pid)
    const spans = await spansOfTrace(receiver, RUN_CALL, daemon.pid)
    const at = (pid: number, name: string): ReceivedSpan | undefined =>
      spans.find((span) => span.pid === pid && span.name === name)
    expect(lineage(spans, at(peer.pid, 'createController'))).toEqual([
      'createController',
      'create',
      CREATE_CALL,
      CREATE_CALL,
      'createController',
      'run',
      RUN_CALL,
    ])
    expect(lineage(spans, at(peer.pid, 'task Create'))).toEqual(expect.arrayContaining([CREATE_CALL, RUN_CALL]))
    expect(at(peer.pid, CREATE_CALL)?.parentSpanId).toBe(at(daemon.pid, CREATE_CALL)?.spanId)
    const text = await readMetrics(daemon)
    expect(valueOf(text, 'sandboxerd_sandboxer_up{sandboxer="far"}')).toBe(1)
    const calls = 'sandboxerd_sandboxer_call_duration_seconds_count'
    expect(valueOf(text, `${calls}{sandboxer="far",method="Create",code="OK"}`)).toBe(1)
    await daemon.client.stop(id)
    await daemon.client.remove(id)
    await peer.kill9()
    const isDown = (metrics: string): boolean => valueOf(metrics, 'sandboxerd_sandboxer_up{sandboxer="far"}') === 0
    expect(isDown(await eventually(() => readMetrics(daemon), isDown, 30_000))).toBe(true)
    await peer.launch()
  })

  it('serves as well without a collector, and says so once', async () => {
    const daemon = await startDaemon({ config: TRACING })
    const id = await daemon.run(daemon.hostPod())
    await daemon.logged('spans cannot be sent to the collector')
    await daemon.client.stop(id)
    await daemon.client.remove(id)
    expect(await daemon.stop()).toBe(0)
    expect(daemon.logs().split('spans cannot be sent').length - 1).toBe(1)
  })
})
