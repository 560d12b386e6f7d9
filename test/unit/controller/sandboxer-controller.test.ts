import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { SandboxerController } from '../../../src/controller/sandboxer-controller.ts'
import { createRequest, fromTimestamp, observedExit, toTimestamp } from '../../../src/controller/sandboxer-messages.ts'
import type { SandboxSpec } from '../../../src/controller/controller.ts'
import { CodedError } from '../../../src/core/errors.ts'
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

let peer: ScriptedSandboxer
let controller: SandboxerController

beforeEach(() => {
  peer = new ScriptedSandboxer()
  const options = { name: 'far', address: 'unix:///far.sock', remoteMs: 1000, runtimeMs: 5000 }
  controller = new SandboxerController(options, { client: peer, encodeConfig: () => Buffer.from('config') })
})

describe('SandboxerController', () => {
  it('has a deadline on every call: a long one where a machine may boot, the grace period on top for Stop', async () => {
    const record = await controller.plan(spec)
    await controller.create(record, spec, signal)
    await controller.start(record, signal)
    await controller.status(record)
    await controller.stop(record, null, 10_000, signal)
    await controller.shutdown(record, signal)
    expect(peer.calls.map(({ method, timeoutMs }) => [method, timeoutMs])).toEqual([
      ['create', 5000],
      ['start', 5000],
      ['status', 1000],
      ['stop', 11_000],
      ['shutdown', 1000],
    ])
  })

  it('keeps the address of the Task service in its record once it is known', async () => {
    const record = await controller.plan(spec)
    expect(controller.startedRecord(record)).toEqual(record)
    await controller.start(record, signal)
    const started = controller.startedRecord(record)
    expect(started).toEqual({ ...record, taskAddress: 'ttrpc+unix:///t', version: 3 })
    expect(controller.parse(JSON.parse(JSON.stringify(started)))).toEqual(started)
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

  it.each([
    ['of another sandboxer', { sandboxer: 'other' }],
    ['without an id', { id: '../x' }],
    ['without a version', { version: '3' }],
    ['without an address', { taskAddress: undefined }],
  ])('refuses a record %s', async (_, change) => {
    const record = await controller.plan(spec)
    expect(() => controller.parse({ ...record, ...change })).toThrow('record of sandboxer far')
  })
})

describe('createRequest', () => {
  it('is what containerd sends', () => {
    const request = createRequest(spec, () => Buffer.from('config'), 1_763_692_200_123_456_789n)
    const at = { seconds: '1763692200', nanos: 123_456_789 }
    expect(request).toMatchObject({
      sandbox_id: ID,
      netns_path: '/run/netns/x',
      annotations: { a: 'b' },
      options: { type_url: 'runtime.v1.PodSandboxConfig', value: Buffer.from('config') },
      sandbox: {
        sandbox_id: ID,
        runtime: { name: 'kata' },
        labels: { name: 'web_default_uid-1_0' },
        created_at: at,
        updated_at: at,
        sandboxer: 'far',
      },
    })
    const { metadata } = request.sandbox?.extensions ?? {}
    expect(metadata).toMatchObject({ type_url: 'github.com/containerd/cri/pkg/store/sandbox/Metadata' })
    const value = metadata && 'value' in metadata ? String(metadata.value) : ''
    expect(JSON.parse(value)).toMatchObject({ Metadata: { IP: '10.0.0.2', AdditionalIPs: ['fd00::2'] } })
  })
})

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
