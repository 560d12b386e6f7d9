import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type sendUnaryData, Server, ServerCredentials, type ServerUnaryCall, status } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connectSandboxer, type SandboxerConnection } from '../../../src/client/client.ts'
import type { ControllerHandlers } from '../../../src/generated/containerd/services/sandbox/v1/Controller.ts'
import type { ControllerCreateRequest__Output } from '../../../src/generated/containerd/services/sandbox/v1/ControllerCreateRequest.ts'
import type { ControllerUpdateRequest__Output } from '../../../src/generated/containerd/services/sandbox/v1/ControllerUpdateRequest.ts'
import { loadCri, loadSandboxApi, loadShimApi } from '../../../src/grpc/load.ts'

const ID = 'a'.repeat(64)
const CONFIG = {
  metadata: { name: 'web', namespace: 'shop', uid: 'u-1', attempt: 2 },
  hostname: 'web',
  annotations: { color: 'blue' },
}
const AT = { seconds: '1700000000', nanos: 42 }
const AT_NS = 1_700_000_000_000_000_042n

let dir: string
let server: Server
let client: SandboxerConnection
let seen: { method: string; request: unknown; namespace: unknown }[]
let answer: (method: string, call: ServerUnaryCall<unknown, unknown>) => unknown
/** Resolves with the next call that the client gave up. */
let cancelled: Promise<void>

/** A server that notes each call, and answers as `answer` says; undefined is no answer at all. */
function handlers(): ControllerHandlers {
  let onCancelled: () => void = () => undefined
  cancelled = new Promise((resolve) => {
    onCancelled = resolve
  })
  const handle = (method: string) => (call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>) => {
    seen.push({ method, request: call.request, namespace: call.metadata.get('containerd-namespace')[0] })
    if (call.cancelled) onCancelled()
    else call.on('cancelled', onCancelled)
    try {
      const message = answer(method, call)
      if (message !== undefined) done(null, message)
    } catch (error) {
      done(error as Error)
    }
  }
  const names = ['Create', 'Start', 'Platform', 'Stop', 'Wait', 'Status', 'Shutdown', 'Metrics', 'Update']
  return Object.fromEntries(names.map((name) => [name, handle(name)])) as unknown as ControllerHandlers
}

async function listen(): Promise<void> {
  server = new Server()
  server.addService(loadSandboxApi().containerd.services.sandbox.v1.Controller.service, handlers())
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${join(dir, 's.sock')}`, ServerCredentials.createInsecure(), (error) => {
      if (error) reject(error)
      else resolve()
    })
  })
}

function last<T>(): T {
  return seen.at(-1)?.request as T
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'client-'))
  seen = []
  answer = () => ({})
  await listen()
  client = connectSandboxer({ address: join(dir, 's.sock') })
})

afterEach(async () => {
  client.close()
  server.forceShutdown()
  await rm(dir, { recursive: true })
})

describe('what the client sends', () => {
  it('is all that servers take for given', async () => {
    await client.create({ id: ID, config: CONFIG })
    const request = last<ControllerCreateRequest__Output>()
    expect(request).toMatchObject({
      sandbox_id: ID,
      sandboxer: 'sandboxerd',
      netns_path: '',
      annotations: { color: 'blue' },
      sandbox: {
        sandbox_id: ID,
        sandboxer: 'sandboxerd',
        runtime: { name: 'io.containerd.runc.v2' },
        labels: { name: 'web_shop_u-1_2' },
      },
    })
    expect(Number(request.sandbox?.created_at?.seconds)).toBeGreaterThan(1_700_000_000)
    expect(request.options?.type_url).toBe('runtime.v1.PodSandboxConfig')
    const config = loadCri().runtime.v1.PodSandboxConfig.deserialize(request.options?.value ?? Buffer.alloc(0))
    expect(config).toMatchObject(CONFIG)
    expect(seen[0]?.namespace).toBe('k8s.io')
  })

  it('is what the caller chooses', async () => {
    using other = connectSandboxer({ address: `unix://${dir}/s.sock`, sandboxer: 'vm', namespace: 'test' })
    const message = { typeUrl: 'x.Y', value: new Uint8Array([1, 2]) }
    const details = {
      runtime: { name: 'io.containerd.kata.v2', options: message },
      labels: {},
      extensions: { e: message },
    }
    await other.create({ id: ID, config: CONFIG, netnsPath: '/run/netns/x', annotations: {}, ...details })
    const any = { type_url: 'x.Y', value: Buffer.from([1, 2]) }
    expect(last<ControllerCreateRequest__Output>()).toMatchObject({
      sandboxer: 'vm',
      netns_path: '/run/netns/x',
      annotations: {},
      sandbox: { runtime: { name: 'io.containerd.kata.v2', options: any }, labels: {}, extensions: { e: any } },
    })
    expect(seen[0]?.namespace).toBe('test')
  })

  it('has a runtime and the sandboxer in an Update, too', async () => {
    const tasks = { typeUrl: 'T', value: Buffer.from('{}') }
    await client.update(ID, { extensions: { tasks }, fields: ['extensions.tasks'] })
    expect(last<ControllerUpdateRequest__Output>()).toMatchObject({
      sandbox_id: ID,
      sandboxer: 'sandboxerd',
      fields: ['extensions.tasks'],
      sandbox: {
        sandbox_id: ID,
        sandboxer: 'sandboxerd',
        runtime: { name: 'io.containerd.runc.v2' },
        extensions: { tasks: { type_url: 'T' } },
      },
    })
  })

  it('names sandbox and sandboxer in every call, and whole seconds of grace', async () => {
    await client.start(ID)
    await client.platform(ID)
    await client.stop(ID, { graceMs: 1500 })
    await client.wait(ID)
    await client.status(ID, { verbose: true })
    await client.shutdown(ID)
    await client.metrics(ID)
    expect(seen.map(({ method }) => method).join(' ')).toBe('Start Platform Stop Wait Status Shutdown Metrics')
    for (const { request } of seen) expect(request).toMatchObject({ sandbox_id: ID, sandboxer: 'sandboxerd' })
    expect(seen[2]?.request).toMatchObject({ timeout_secs: 2 })
    expect(seen[4]?.request).toMatchObject({ verbose: true })
  })
})

describe('what the client answers', () => {
  it('is plain', async () => {
    const labels = { selinux_label: 'l' }
    const answers: Record<string, object> = {
      Start: { pid: 7, created_at: AT, labels, address: 'ttrpc+unix:///t', version: 3 },
      Platform: { platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } },
      Wait: { exit_status: 137, exited_at: AT },
      Status: {
        sandbox_id: ID,
        state: 'SANDBOX_READY',
        pid: 7,
        created_at: AT,
        address: 'ttrpc+unix:///t',
        version: 3,
      },
    }
    answer = (method) => answers[method]
    const endpoint = { address: 'ttrpc+unix:///t', version: 3 }
    expect(await client.start(ID)).toEqual({ pid: 7, createdAtNs: AT_NS, labels, ...endpoint })
    expect(await client.platform(ID)).toEqual({ os: 'linux', architecture: 'arm64', variant: 'v8' })
    expect(await client.wait(ID)).toEqual({ exitStatus: 137, exitedAtNs: AT_NS })
    const running = {
      id: ID,
      ready: true,
      state: 'SANDBOX_READY',
      pid: 7,
      info: {},
      createdAtNs: AT_NS,
      exitedAtNs: null,
    }
    expect(await client.status(ID)).toEqual({ ...running, ...endpoint })
  })

  it('holds the metrics of either version of cgroups', async () => {
    const { v1, v2 } = loadShimApi().io.containerd.cgroups
    const data: { type_url: string; value: Buffer } = {
      type_url: 'io.containerd.cgroups.v1.Metrics',
      value: Buffer.alloc(0),
    }
    answer = () => ({ metrics: { timestamp: AT, id: ID, data } })
    data.value = v1.Metrics.serialize({
      cpu: { usage: { total: '9007199254740993' } },
      memory: { usage: { usage: 4096 } },
      pids: { current: 2 },
    })
    const usage = { version: 1, cpuNs: 9_007_199_254_740_993n, memoryBytes: 4096n, pids: 2n }
    expect(await client.metrics(ID)).toMatchObject({ atNs: AT_NS, usage })
    data.type_url = 'type.googleapis.com/io.containerd.cgroups.v2.Metrics'
    data.value = v2.Metrics.serialize({ cpu: { usage_usec: 5 }, memory: { usage: 1 }, pids: { current: 3 } })
    expect((await client.metrics(ID)).usage).toEqual({ version: 2, cpuNs: 5000n, memoryBytes: 1n, pids: 3n })
    data.type_url = 'windows.Stats'
    expect(await client.metrics(ID)).toMatchObject({ usage: null, data: { typeUrl: 'windows.Stats' } })
    data.type_url = 'io.containerd.cgroups.v2.Metrics'
    data.value = Buffer.from([0xff])
    await expect(client.metrics(ID)).rejects.toMatchObject({ code: 'DataLoss' })
  })

  it('is nothing where the sandboxer has no metrics', async () => {
    expect(await client.metrics(ID)).toEqual({ atNs: null, data: null, usage: null })
  })
})

describe('how calls of the client end', () => {
  it('with the code and the message of the sandboxer', async () => {
    answer = () => {
      throw Object.assign(new Error('x'), { code: status.ALREADY_EXISTS, details: 'there is one' })
    }
    await expect(client.create({ id: ID, config: CONFIG })).rejects.toMatchObject({
      code: 'AlreadyExists',
      message: `sandboxer sandboxerd: create sandbox ${ID}: there is one (ALREADY_EXISTS)`,
    })
  })

  it('when their time is over', async () => {
    answer = () => undefined
    let isGivenUp = false
    void cancelled.then(() => (isGivenUp = true))
    // On a busy machine the time may be over before the call has left.
    for (let timeoutMs = 50; !isGivenUp; timeoutMs *= 2) {
      await expect(client.start(ID, { timeoutMs })).rejects.toMatchObject({ code: 'DeadlineExceeded' })
      if (seen.length > 0) await cancelled
    }
    using hasty = connectSandboxer({ address: join(dir, 's.sock'), timeoutMs: 50 })
    await expect(hasty.status(ID)).rejects.toMatchObject({ code: 'DeadlineExceeded' })
    await expect(hasty.stop(ID, { graceMs: 10, timeoutMs: 50 })).rejects.toThrow('no answer after 60 ms')
  })

  it('with the reason of their signal, and at the sandboxer as well', async () => {
    answer = () => undefined
    const abort = new AbortController()
    const wait = client.wait(ID, { signal: abort.signal })
    await expect.poll(() => seen.length).toBe(1)
    abort.abort(new Error('enough'))
    await expect(wait).rejects.toThrow('enough')
    await cancelled
    await expect(client.wait(ID, { signal: abort.signal })).rejects.toThrow('enough')
    expect(seen).toHaveLength(1)
  })

  it('when the client is closed; later ones are not made', async () => {
    answer = () => undefined
    const wait = client.wait(ID)
    await expect.poll(() => seen.length).toBe(1)
    client.close()
    await expect(wait).rejects.toMatchObject({ code: 'Canceled' })
    await cancelled
    await expect(client.status(ID)).rejects.toMatchObject({ code: 'Canceled' })
    client.close()
  })

  it('at once when nobody is there, and well when there is somebody again', async () => {
    server.forceShutdown()
    await rm(join(dir, 's.sock'), { force: true })
    await expect(client.status(ID)).rejects.toMatchObject({ code: 'Unavailable' })
    await listen()
    await expect.poll(async () => client.status(ID).then(() => 'ok', String), { timeout: 5000 }).toBe('ok')
  })

  it.each([
    ['an empty id', () => client.start(''), 'id: '],
    ['no configuration', () => client.create({ id: ID } as never), 'config: '],
    ['no time', () => client.start(ID, { timeoutMs: Number.NaN }), 'timeoutMs: '],
    ['a grace that is none', () => client.stop(ID, { graceMs: -1 }), 'graceMs: '],
    ['an address that is none', async () => connectSandboxer({ address: 'localhost:1' }), 'address: '],
  ])('before they are made, for %s', async (_, call, field) => {
    const error = await call().then(
      () => undefined,
      (error: unknown) => error,
    )
    expect(error).toMatchObject({ code: 'InvalidArgument' })
    expect(String(error)).toContain(field)
    expect(seen).toEqual([])
  })
})
