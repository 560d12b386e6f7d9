import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { SandboxerController } from '../../../src/controller/sandboxer-controller.ts'
import { fromTimestamp, toTimestamp } from '../../../src/client/timestamp.ts'
import { observedExit } from '../../../src/client/exit.ts'
import { createRequest } from '../../../src/controller/sandboxer-messages.ts'
import type { SandboxSpec } from '../../../src/controller/controller.ts'
import { CodedError } from '../../../src/core/errors.ts'
import type { AnnouncedTask } from '../../../src/executor/task/types.ts'
import { parseOciJson } from '../../../src/oci/json.ts'
import { podConfig } from '../../support/fake-sandboxes.ts'
import { ScriptedSandboxer } from '../../support/scripted-sandboxer.ts'

const ID = 'b'.repeat(64)
const spec: SandboxSpec = {
  id: ID,
  config: podConfig({ annotations: { a: 'b' } }),
  hostname: 'web',
  runtimeHandler: 'kata',
  sandboxer: 'far',
  netnsPath: '/run/netns/x',
  usernsPath: '',
  stateDir: '/state',
  shmPath: '/state/shm',
  ips: ['10.0.0.2', 'fd00::2'],
}
const signal = new AbortController().signal
const gone = new CodedError('NotFound', 'gone')
const down = new CodedError('Unavailable', 'down')
const codec = { encode: () => Buffer.from('config'), toJson: () => ({ hostname: 'web' }) }

let peer: ScriptedSandboxer
let controller: SandboxerController

beforeEach(() => {
  peer = new ScriptedSandboxer()
  controller = new SandboxerController(
    {
      name: 'far',
      address: 'unix:///far.sock',
      networkFirst: true,
      unreachableGraceMs: 30_000,
      runtimeOf: (name) => ({ name, options: null }),
      remoteMs: 1000,
      runtimeMs: 5000,
    },
    { client: peer, codec },
  )
})

describe('SandboxerController', () => {
  it('has a deadline on every call: a long one where a machine may boot, the grace period on top for Stop', async () => {
    const record = await controller.plan(spec)
    await controller.create(record, spec, signal)
    await controller.start(record, signal)
    await controller.status(record)
    await controller.info(record)
    await controller.announce(record, [], signal)
    await controller.metrics(record, signal)
    await controller.stop(record, null, 10_000, signal)
    await controller.shutdown(record, signal)
    expect(peer.calls.map(({ method, timeoutMs }) => [method, timeoutMs])).toEqual([
      ['create', 5000],
      ['start', 5000],
      ['status', 1000],
      ['status', 1000],
      ['update', 5000],
      ['metrics', 1000],
      ['stop', 11_000],
      ['shutdown', 1000],
    ])
  })

  it('keeps the process and the Task service in its record once they are known', async () => {
    const record = await controller.plan(spec)
    expect(controller.startedRecord(record)).toEqual(record)
    await controller.start(record, signal)
    const started = controller.startedRecord(record)
    expect(started).toEqual({ ...record, taskAddress: 'ttrpc+unix:///t', version: 3, pid: 1 })
    expect(controller.parse(JSON.parse(JSON.stringify(started)))).toEqual(started)
  })

  it('takes up what an older daemon has noted, which was less', async () => {
    const old = { sandboxer: 'far', address: 'unix:///far.sock', id: ID, taskAddress: 'ttrpc+unix:///t', version: 2 }
    const record = controller.parse(JSON.parse(JSON.stringify(old)))
    expect(record).toEqual({
      ...old,
      pid: 0,
      runtime: { name: 'far', options: null },
      podName: '',
      createdAtNs: '0',
    })
    expect(controller.parse(record)).toEqual(record)
    controller.adopt(record)
    const closing = await watched(record)
    expect(controller.startedRecord(record)).toMatchObject({ taskAddress: 'ttrpc+unix:///t', pid: 1 })
    await controller.announce(record, [], signal)
    expect(peer.updates[0]?.sandbox).toMatchObject({ runtime: { name: 'far' }, created_at: { seconds: '0', nanos: 0 } })
    closing.abort()
    await controller.stop(record, null, 0, signal)
    await controller.shutdown(record, signal)
    expect(peer.calls.slice(-2).map(({ method }) => method)).toEqual(['stop', 'shutdown'])
  })

  it('takes both from Status after a restart, but not what Status leaves out', async () => {
    const record = controller.parse({ ...(await controller.plan(spec)), taskAddress: 'ttrpc+unix:///old', pid: 7 })
    controller.adopt(record)
    expect(controller.tasks(record)).toMatchObject({ address: 'ttrpc+unix:///old' })
    peer.started = { pid: 0, address: '', version: 0 }
    const first = await watched(record)
    expect(controller.startedRecord(record)).toEqual(record)
    first.abort()
    peer.started = { pid: 8, address: 'ttrpc+unix:///new', version: 2 }
    const second = await watched(record)
    expect(controller.startedRecord(record)).toMatchObject({ taskAddress: 'ttrpc+unix:///new', version: 2, pid: 8 })
    second.abort()
  })

  it('has containers run at the Task service of the peer, announced when it is older than version 3', async () => {
    const record = await controller.plan(spec)
    expect(controller.tasks(record)).toBeNull()
    await controller.start(record, signal)
    expect(controller.tasks(record)).toEqual({ address: 'ttrpc+unix:///t', version: 3, announced: false })
    peer.started = { ...peer.started, version: 2 }
    await controller.start(record, signal)
    expect(controller.tasks(record)).toEqual({ address: 'ttrpc+unix:///t', version: 2, announced: true })
  })

  it('names the namespaces of the process that the peer has named, also of one that it fills in', async () => {
    const record = await controller.plan(spec)
    peer.started = { ...peer.started, pid: 4711 }
    await controller.start(record, signal)
    expect(controller.namespaces(record)).toEqual({
      ipc: '/proc/4711/ns/ipc',
      uts: '/proc/4711/ns/uts',
      pid: '/proc/4711/ns/pid',
    })
    peer.started = { ...peer.started, pid: 0 }
    await controller.start(record, signal)
    expect(controller.namespaces(record)).toMatchObject({ ipc: '/proc/0/ns/ipc' })
  })

  it('takes a sandbox that the peer does not know for stopped and removed', async () => {
    peer.failure = gone
    const record = controller.parse({ ...(await controller.plan({ ...spec, id: 'c'.repeat(64) })), id: ID })
    await controller.stop(record, null, 0, signal)
    await controller.shutdown(record, signal)
    peer.status = async () => {
      throw gone
    }
    expect(await controller.status(record)).toMatchObject({ state: 'stopped' })
  })

  it('does not take a peer that fails for one that has done it', async () => {
    peer.failure = new CodedError('Unavailable', 'down')
    const record = await controller.plan(spec)
    await expect(controller.create(record, spec, signal)).rejects.toThrow('down')
    await expect(controller.stop(record, null, 0, signal)).rejects.toThrow('down')
    await expect(controller.shutdown(record, signal)).rejects.toThrow('down')
    peer.status = async () => {
      throw new CodedError('Unavailable', 'down')
    }
    expect(await controller.status(record)).toMatchObject({ state: 'unknown' })
  })

  it('does not take for gone what a daemon that died may have asked for a moment ago', async () => {
    vi.useFakeTimers()
    onTestFinished(() => void vi.useRealTimers())
    const record = controller.parse({ ...(await controller.plan({ ...spec, id: 'c'.repeat(64) })), id: ID })
    controller.adopt(record)
    peer.failure = gone
    await expect(controller.shutdown(record, signal)).rejects.toThrow('it may still be made there')
    await vi.advanceTimersByTimeAsync(60_000)
    await controller.shutdown(record, signal)
  })

  it('asks nothing of the peer for what it was never told of', async () => {
    const record = await controller.plan(spec)
    await controller.stop(record, null, 0, signal)
    await controller.shutdown(record, signal)
    expect(peer.calls).toEqual([])
  })

  it('does not believe that a sandbox is gone whose creation was cut short, for a while', async () => {
    vi.useFakeTimers()
    onTestFinished(() => void vi.useRealTimers())
    const record = await controller.plan(spec)
    peer.failure = new CodedError('DeadlineExceeded', 'slow')
    await expect(controller.create(record, spec, signal)).rejects.toThrow('slow')
    peer.failure = gone
    await expect(controller.shutdown(record, signal)).rejects.toThrow('it may still be made there')
    await vi.advanceTimersByTimeAsync(60_000)
    await controller.shutdown(record, signal)
  })

  it('tells what is stale when the peer does not answer, without waiting for it', async () => {
    vi.useFakeTimers()
    onTestFinished(() => void vi.useRealTimers())
    const record = await controller.plan(spec)
    await controller.start(record, signal)
    expect(await controller.info(record)).toMatchObject({ stale: false, pid: 1, remote: { state: 'SANDBOX_READY' } })
    peer.status = async () => {
      throw down
    }
    const fresh = await controller.info(record)
    expect(fresh).toMatchObject({ stale: true, lastError: 'down', pid: 1, remote: { version: 3 } })

    const since = Date.now()
    await watched(record)
    await vi.advanceTimersByTimeAsync(30_000)
    const asked = peer.calls.length
    const info = await controller.info(record)
    expect(await controller.metrics(record, signal)).toBeNull()
    expect(peer.calls).toHaveLength(asked)
    expect(info).toMatchObject({ stale: true, lastError: 'down', remote: { taskAddress: 'ttrpc+unix:///t' } })
    expect(Math.abs(Date.parse(String(info['staleSince'])) - since)).toBeLessThan(1000)
  })

  it('notices a peer that hangs for all of its sandboxes, soon, by asking of one at a time', async () => {
    vi.useFakeTimers()
    onTestFinished(() => void vi.useRealTimers())
    const closing = new AbortController()
    const planned = await controller.plan(spec)
    const records = Array.from({ length: 50 }, (_, i) => ({ ...planned, id: i.toString(16).padStart(64, '0') }))
    const reachable = new Map<string, boolean>()
    for (const record of records) {
      const onReachable = (value: boolean): void => void reachable.set(record.id, value)
      controller.wait(record, null, closing.signal, onReachable).catch(() => undefined)
    }
    await vi.advanceTimersByTimeAsync(1000)
    const before = peer.count('status')
    await vi.advanceTimersByTimeAsync(10_000)
    expect(peer.count('status') - before).toBeLessThan(5)

    peer.status = async () => {
      throw down
    }
    await vi.advanceTimersByTimeAsync(10_000)
    const asked = peer.calls.length
    const infos = await Promise.all(records.map((record) => controller.info(record)))
    expect(peer.calls).toHaveLength(asked)
    expect(infos.filter(({ stale }) => stale !== true)).toEqual([])
    expect([...reachable.values()].filter((value) => !value)).toEqual([])
    await vi.advanceTimersByTimeAsync(40_000)
    expect([...reachable.values()].filter((value) => value)).toEqual([])

    closing.abort()
    await vi.advanceTimersByTimeAsync(1000)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('hands on the metrics of the peer, if it has any', async () => {
    const record = await controller.plan(spec)
    expect(await controller.metrics(record, signal)).toBeNull()
    const data = { type_url: 'io.containerd.cgroups.v1.Metrics', value: Buffer.from('m') }
    peer.metricsData = { timestamp: null, id: ID, data }
    expect(await controller.metrics(record, signal)).toEqual(data)
    peer.failure = new CodedError('Unimplemented', 'no')
    expect(await controller.metrics(record, signal)).toBeNull()
    peer.failure = down
    await expect(controller.metrics(record, signal)).rejects.toThrow('down')
  })

  it.each([
    ['of another sandboxer', { sandboxer: 'other' }],
    ['without an id', { id: '../x' }],
    ['without a version', { version: '3' }],
    ['without an address', { taskAddress: undefined }],
    ['without a pid', { pid: -1 }],
    ['without a runtime', { runtime: { name: '', options: null } }],
    ['without a time', { createdAtNs: 'now' }],
    ['with options that are none', { runtime: { name: 'r', options: { typeUrl: 't' } } }],
  ])('refuses a record %s', async (_, change) => {
    const record = await controller.plan(spec)
    expect(() => controller.parse({ ...record, ...change })).toThrow('record of sandboxer far')
  })
})

/** Has the sandbox watched until aborted; returns when its first Status was asked for. */
async function watched(record: Parameters<SandboxerController['wait']>[0]): Promise<AbortController> {
  const closing = new AbortController()
  controller.wait(record, null, closing.signal).catch(() => undefined)
  await Promise.resolve()
  await vi.waitFor(() => expect(peer.count('status')).toBeGreaterThan(0))
  await new Promise((resolve) => {
    process.nextTick(resolve)
  })
  return closing
}

describe('announced tasks', () => {
  const task = (id: string): AnnouncedTask => ({
    task_id: id,
    spec: { ociVersion: '1.1.0' },
    rootfs: [{ type: 'bind', source: '/rootfs', options: ['rbind'] }],
    stdin: '',
    stdout: '/out',
    stderr: '/err',
    processes: [],
  })

  it('are told as iSulad tells them, with all that a server may take for given', async () => {
    const record = await controller.plan(spec)
    const exact = { ...task('a'), spec: { ociVersion: '1.1.0', limit: 18_446_744_073_709_551_615n } }
    await controller.announce(record, [exact], signal)
    const [update] = peer.updates
    expect(update?.fields).toEqual(['extensions.tasks'])
    expect(update?.sandbox).toMatchObject({
      sandbox_id: ID,
      runtime: { name: 'kata' },
      labels: { name: 'web_default_uid-1_0' },
      created_at: toTimestamp(BigInt(record.createdAtNs)),
      extensions: { tasks: { type_url: 'github.com/containerd/containerd/Tasks' } },
    })
    const value = update?.sandbox.extensions?.['tasks']
    expect(parseOciJson(String(value && 'value' in value ? value.value : ''))).toEqual({ tasks: [exact] })
  })

  it('may be nothing that the peer knows of, but what it refuses fails', async () => {
    const record = await controller.plan(spec)
    peer.failure = new CodedError('Unimplemented', 'no')
    await controller.announce(record, [task('a')], signal)
    peer.failure = new CodedError('InvalidArgument', 'bad spec')
    await expect(controller.announce(record, [task('a')], signal)).rejects.toThrow('bad spec')
    peer.failure = undefined
    await controller.announce(record, [], signal)
  })
})

describe('createRequest', () => {
  it('is what containerd sends', async () => {
    const runtime = {
      name: 'io.containerd.kata.v2',
      options: { typeUrl: 'o', value: Buffer.from('x').toString('base64') },
    }
    const record = { ...(await controller.plan(spec)), runtime, createdAtNs: '1763692200123456789' }
    const request = createRequest(record, spec, codec)
    const at = { seconds: '1763692200', nanos: 123_456_789 }
    expect(request).toMatchObject({
      sandbox_id: ID,
      netns_path: '/run/netns/x',
      annotations: { a: 'b' },
      options: { type_url: 'runtime.v1.PodSandboxConfig', value: Buffer.from('config') },
      sandbox: {
        sandbox_id: ID,
        runtime: { name: 'io.containerd.kata.v2', options: { type_url: 'o', value: Buffer.from('x') } },
        labels: { name: 'web_default_uid-1_0' },
        created_at: at,
        updated_at: at,
        sandboxer: 'far',
      },
    })
    expect(metadataOf(request)).toMatchObject({
      Version: 'v1',
      Metadata: {
        ID,
        Name: 'web_default_uid-1_0',
        Config: { hostname: 'web' },
        IP: '10.0.0.2',
        AdditionalIPs: ['fd00::2'],
        RuntimeHandler: 'kata',
        CNIResult: null,
      },
    })
  })

  it('has the results of all networks, in the form of go-cni', async () => {
    const dns = { nameservers: ['10.0.0.53'], domain: '', search: [], options: [] }
    const networks = [
      {
        result: {
          interfaces: [
            { name: 'veth1', mac: '02:00:00:00:00:01', sandbox: '' },
            { name: 'eth0', mac: '02:00:00:00:00:02', sandbox: '/run/netns/x' },
          ],
          ips: [
            { address: '10.0.0.2/24', gateway: '10.0.0.1', interface: 1 },
            { address: 'fd00::2/64', interface: 1 },
          ],
          routes: [{ dst: '0.0.0.0/0' }],
          dns,
        },
      },
    ]
    const request = createRequest(await controller.plan(spec), { ...spec, networks }, codec)
    expect(metadataOf(request).Metadata['CNIResult']).toEqual({
      Interfaces: {
        veth1: { IPConfigs: [], Mac: '02:00:00:00:00:01', Sandbox: '' },
        eth0: {
          IPConfigs: [
            { IP: '10.0.0.2', Gateway: '10.0.0.1' },
            { IP: 'fd00::2', Gateway: '' },
          ],
          Mac: '02:00:00:00:00:02',
          Sandbox: '/run/netns/x',
        },
      },
      DNS: [dns],
      Routes: [{ dst: '0.0.0.0/0' }],
    })
  })
})

function metadataOf(request: ReturnType<typeof createRequest>): { Metadata: Record<string, unknown> } {
  const metadata = request.sandbox?.extensions?.['metadata']
  expect(metadata).toMatchObject({ type_url: 'github.com/containerd/cri/pkg/store/sandbox/Metadata' })
  return JSON.parse(String(metadata && 'value' in metadata ? metadata.value : '')) as ReturnType<typeof metadataOf>
}

describe('times and exits on the wire', () => {
  it('are exact', () => {
    const ns = 1_763_692_200_123_456_789n
    const { seconds, nanos } = toTimestamp(ns)
    expect(fromTimestamp({ seconds: String(seconds), nanos: nanos ?? 0 })).toBe(ns)
    expect(fromTimestamp({ seconds: '0', nanos: 0 })).toBeUndefined()
    expect(fromTimestamp({ seconds: '-62135596800', nanos: 0 })).toBeUndefined()
    expect(observedExit(143, { seconds: '1', nanos: 2 })).toEqual({ code: 143, atNs: 1_000_000_002n, reason: 'Exited' })
    expect(observedExit(0xffffffff, null)).toMatchObject({ code: 255, reason: 'Unknown' })
  })
})
