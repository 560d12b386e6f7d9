import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Server, ServerCredentials, type sendUnaryData, type ServerUnaryCall, status } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sleep } from '../../../../src/core/deadline.ts'
import { CodedError } from '../../../../src/core/errors.ts'
import { parseTaskEndpoint } from '../../../../src/executor/task/task-address.ts'
import { TaskConnections } from '../../../../src/executor/task/task-services.ts'
import { loadShimApi } from '../../../../src/grpc/load.ts'
import { TtrpcServer, ttrpcMethod } from '../../../../src/ttrpc/server.ts'

const api = loadShimApi()
const { Task } = api.containerd.task.v3
const definition = Task.service
const signal = new AbortController().signal
const call = { timeoutMs: 5000, signal }

let directory: string
let path: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sandboxerd-tasks-'))
  path = join(directory, 'a.sock')
})
afterEach(() => rmSync(directory, { recursive: true }))

function connections(idleMs?: number): TaskConnections {
  return new TaskConnections(idleMs === undefined ? {} : { idleMs }, { definition, messages: api.ttrpc })
}

async function serve(service: string): Promise<TtrpcServer> {
  const server = new TtrpcServer({ socketPath: path }, { messages: api.ttrpc })
  server.addService(service, {
    State: ttrpcMethod(definition.State, async ({ id }, { metadata }) => {
      if (id === '') throw new CodedError('NotFound', 'no such task')
      return { id, bundle: metadata.get('containerd-namespace-ttrpc') ?? '', pid: 7, status: 'RUNNING' as const }
    }),
    Wait: ttrpcMethod(definition.Wait, async (_request, { signal: gone }) => {
      await once(gone, 'abort')
      return {}
    }),
  })
  await server.listen()
  return server
}

describe('parseTaskEndpoint', () => {
  const v3 = 'containerd.task.v3.Task'
  it.each([
    ['ttrpc+unix:///run/a.sock', 3, { service: v3, protocol: 'ttrpc', target: { path: '/run/a.sock' } }],
    ['unix:///run/a.sock', 2, { service: 'containerd.task.v2.Task', protocol: 'ttrpc' }],
    ['ttrpc+unix:///run/a.sock', 0, { service: 'containerd.task.v2.Task' }],
    ['ttrpc+unix:///run/a+b.sock', 3, { target: { path: '/run/a+b.sock' } }],
    ['ttrpc+hvsock:///run/vm.sock:1024', 2, { protocol: 'ttrpc', target: { path: '/run/vm.sock', vsockPort: 1024 } }],
    ['grpc+/run/a.sock', 3, { service: v3, protocol: 'grpc', target: { path: '/run/a.sock' } }],
    ['grpc+unix:///run/a.sock', 3, { protocol: 'grpc', target: { path: '/run/a.sock' } }],
  ] as const)('takes %s of version %i', (address, version, expected) => {
    expect(parseTaskEndpoint({ address, version })).toMatchObject(expected)
  })

  it.each([
    ['ttrpc+unix:///run/a.sock', 4, 'it has version 4, and 2 and 3 are spoken here'],
    ['ttrpc+unix:///run/a.sock', 1, 'version 1'],
    ['ttrpc+/run/a.sock', 3, 'abstract sockets are not spoken to'],
    ['shim', 2, 'abstract'],
    ['', 3, 'abstract'],
    ['ttrpc+vsock://3:1024', 2, 'vsock needs a kind of socket that Node.js cannot open'],
    ['ttrpc+hvsock:///run/vm.sock', 2, 'names no port'],
    ['ttrpc+unix://a.sock', 3, 'not absolute'],
    ['grpc+a.sock', 3, 'not absolute'],
    ['http+/a.sock', 3, 'neither ttrpc nor grpc'],
    ['ttrpc+tcp://1.2.3.4:5', 3, 'tcp is not spoken here'],
  ])('refuses %s of version %i', (address, version, why) => {
    const parse = (): unknown => parseTaskEndpoint({ address, version })
    expect(parse).toThrow(why)
    expect(parse).toThrow(expect.objectContaining({ code: 'FailedPrecondition' }))
  })
})

describe.each([
  [2, 'containerd.task.v2.Task'],
  [3, 'containerd.task.v3.Task'],
])('TaskConnections over ttrpc, version %i', (version, service) => {
  const endpoint = () => ({ address: `ttrpc+unix://${path}`, version })

  it('asks the service of that version, in the namespace of Kubernetes', async () => {
    await using _server = await serve(service)
    using services = connections()
    const state = await services.at(endpoint()).state({ id: 'a' }, call)
    expect(state).toMatchObject({ id: 'a', pid: 7, status: 'RUNNING', bundle: 'k8s.io' })
    await expect(services.at(endpoint()).state({ id: '' }, call)).rejects.toMatchObject({ code: 'NotFound' })
  })

  it('connects anew when the peer has come back', async () => {
    using services = connections()
    const task = services.at(endpoint())
    await expect(task.state({ id: 'a' }, call)).rejects.toMatchObject({ code: 'Unavailable' })
    const first = await serve(service)
    const wait = task.wait({ id: 'a' }, { timeoutMs: 0, signal })
    const lost = expect(wait).rejects.toMatchObject({ code: 'Unavailable' })
    expect((await task.state({ id: 'a' }, call)).id).toBe('a')
    await first[Symbol.asyncDispose]()
    await lost
    await using _second = await serve(service)
    expect((await task.state({ id: 'b' }, call)).id).toBe('b')
  })

  it('closes a connection that nobody uses, but not below a call that waits', async () => {
    await using _server = await serve(service)
    using services = connections(30)
    const task = services.at(endpoint())
    const giveUp = new AbortController()
    let ended = false
    const wait = task.wait({ id: 'a' }, { timeoutMs: 0, signal: giveUp.signal })
    const outcome = wait.catch((error: unknown) => error).finally(() => (ended = true))
    await task.state({ id: 'a' }, call)
    await sleep(100)
    expect(ended).toBe(false)
    giveUp.abort(new CodedError('Canceled', 'enough'))
    expect(await outcome).toMatchObject({ code: 'Canceled' })
    await sleep(100)
    expect((await task.state({ id: 'a' }, call)).id).toBe('a')
  })
})

describe('TaskConnections over gRPC', () => {
  it('carries calls, codes, limits and signals', async () => {
    const server = new Server()
    server.addService(definition, {
      state: ({ request, metadata }: ServerUnaryCall<{ id: string }, unknown>, answer: sendUnaryData<object>) => {
        if (request.id === '') answer({ code: status.FAILED_PRECONDITION, details: 'not now' })
        else if (request.id !== 'never')
          answer(null, { id: request.id, bundle: metadata.get('containerd-namespace')[0] })
      },
    })
    await new Promise((resolve, reject) => {
      server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(0),
      )
    })
    using services = connections()
    const task = services.at({ address: `grpc+${path}`, version: 3 })
    expect(await task.state({ id: 'a' }, call)).toMatchObject({ id: 'a', bundle: 'k8s.io' })
    await expect(task.state({ id: '' }, call)).rejects.toMatchObject({ code: 'FailedPrecondition' })
    await expect(task.kill({ id: 'a' }, call)).rejects.toMatchObject({ code: 'Unimplemented' })
    const short = { timeoutMs: 50, signal }
    await expect(task.state({ id: 'never' }, short)).rejects.toMatchObject({ code: 'DeadlineExceeded' })
    const giveUp = new AbortController()
    const given = task.state({ id: 'never' }, { timeoutMs: 0, signal: giveUp.signal })
    giveUp.abort(new CodedError('Canceled', 'enough'))
    await expect(given).rejects.toThrow('enough')
    server.forceShutdown()
    await expect(task.state({ id: 'a' }, call)).rejects.toMatchObject({ code: 'Unavailable' })
  })
})
