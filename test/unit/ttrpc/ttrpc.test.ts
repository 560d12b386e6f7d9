import { once, setMaxListeners } from 'node:events'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sleep } from '../../../src/core/deadline.ts'
import { CodedError } from '../../../src/core/errors.ts'
import { loadShimApi } from '../../../src/grpc/load.ts'
import { connectTtrpc } from '../../../src/ttrpc/connect.ts'
import { encodeFrame, MAX_MESSAGE_BYTES } from '../../../src/ttrpc/frames.ts'
import { TtrpcServer, ttrpcMethod } from '../../../src/ttrpc/server.ts'
import type { TtrpcConnection, TtrpcServerCall } from '../../../src/ttrpc/types.ts'

const { ttrpc: messages, containerd } = loadShimApi()
const SERVICE = 'containerd.task.v3.Task'
const methods = containerd.task.v3.Task.service
const signal = new AbortController().signal
setMaxListeners(0, signal)

let directory: string
let path: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sandboxerd-ttrpc-'))
  path = join(directory, 'a.sock')
})
afterEach(() => rmSync(directory, { recursive: true }))

function connect(options: { vsockPort?: number; timeoutMs?: number } = {}): Promise<TtrpcConnection> {
  const { timeoutMs = 5000, ...target } = options
  const metadata = { 'containerd-namespace-ttrpc': 'k8s.io' }
  return connectTtrpc({ path, ...target }, { address: `unix://${path}`, metadata }, { messages }, { timeoutMs, signal })
}

/** Wait is the call that takes as long as its server likes. */
function wait(connection: TtrpcConnection, id: string, call: { timeoutMs?: number; signal?: AbortSignal } = {}) {
  return connection.call(SERVICE, 'Wait', methods.Wait, { id }, { timeoutMs: 0, signal, ...call })
}

async function serve(answer: (id: string, call: TtrpcServerCall) => Promise<number>): Promise<TtrpcServer> {
  const server = new TtrpcServer({ socketPath: path }, { messages })
  const Wait = ttrpcMethod(methods.Wait, async ({ id }, call) => ({ exit_status: await answer(id, call) }))
  server.addService(SERVICE, { Wait })
  await server.listen()
  return server
}

describe('a ttrpc connection', () => {
  it('carries calls at once, answered in any order', async () => {
    await using _server = await serve(async (id) => {
      await sleep(30 - Number(id))
      return Number(id)
    })
    using connection = await connect()
    const ids = Array.from({ length: 30 }, (_, index) => index)
    const answers = await Promise.all(ids.map((id) => wait(connection, `${id}`)))
    expect(answers.map(({ exit_status }) => exit_status)).toEqual(ids)
  })

  it('tells the peer the namespace and the time limit, and ends at that limit', async () => {
    const seen: unknown[] = []
    await using _server = await serve(async (_id, call) => {
      seen.push(call.metadata.get('containerd-namespace-ttrpc'))
      await once(call.signal, 'abort')
      seen.push((call.signal.reason as CodedError).code)
      throw call.signal.reason
    })
    using connection = await connect()
    await expect(wait(connection, 'a', { timeoutMs: 50 })).rejects.toMatchObject({ code: 'DeadlineExceeded' })
    await expect.poll(() => seen).toEqual(['k8s.io', 'DeadlineExceeded'])
  })

  it('gives the code and the message of the peer', async () => {
    await using _server = await serve(async (id) => {
      throw id === '' ? new Error('odd') : new CodedError('NotFound', `task ${id}: not found`)
    })
    using connection = await connect()
    await expect(wait(connection, 'x')).rejects.toMatchObject({ code: 'NotFound' })
    await expect(wait(connection, 'x')).rejects.toThrow('task x: not found')
    await expect(wait(connection, '')).rejects.toMatchObject({ code: 'Internal' })
    const unknown = connection.call(SERVICE, 'Kill', methods.Kill, {}, { timeoutMs: 0, signal })
    await expect(unknown).rejects.toMatchObject({ code: 'Unimplemented' })
    const inherited = connection.call(SERVICE, 'constructor', methods.Kill, {}, { timeoutMs: 0, signal })
    await expect(inherited).rejects.toMatchObject({ code: 'Unimplemented' })
  })

  it('goes on after a call was given up, and drops its late answer', async () => {
    let release: (() => void) | undefined
    await using _server = await serve(async (id) => {
      if (id === 'slow') {
        await new Promise<void>((resolve) => {
          release = resolve
        })
      }
      return 7
    })
    using connection = await connect()
    const giveUp = new AbortController()
    const slow = wait(connection, 'slow', { signal: giveUp.signal })
    await expect.poll(() => release).toBeDefined()
    giveUp.abort(new CodedError('Canceled', 'no longer needed'))
    await expect(slow).rejects.toThrow('no longer needed')
    release?.()
    expect((await wait(connection, 'next')).exit_status).toBe(7)
  })

  it('ends every call when the peer goes away, and those that come later', async () => {
    const server = await serve(async (_id, call) => {
      await once(call.signal, 'abort')
      return 0
    })
    using connection = await connect()
    const calls = [wait(connection, 'a'), wait(connection, 'b')]
    const outcomes = Promise.allSettled(calls)
    await sleep(20)
    await server[Symbol.asyncDispose]()
    await connection.closed
    for (const outcome of await outcomes) expect(outcome).toMatchObject({ reason: { code: 'Unavailable' } })
    await expect(wait(connection, 'c')).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('is refused where nobody listens, and given up where nobody accepts', async () => {
    await expect(connect()).rejects.toMatchObject({ code: 'Unavailable' })
    await using _server = await serveRaw(() => undefined)
    await expect(connect({ vsockPort: 1, timeoutMs: 50 })).rejects.toMatchObject({ code: 'DeadlineExceeded' })
  })

  it('refuses a request that is too long, and is as good as before', async () => {
    await using _server = await serve(async () => 1)
    using connection = await connect()
    await expect(wait(connection, 'x'.repeat(MAX_MESSAGE_BYTES))).rejects.toMatchObject({ code: 'ResourceExhausted' })
    expect((await wait(connection, 'x')).exit_status).toBe(1)
  })
})

describe('a ttrpc connection to a hostile peer', () => {
  const response = messages.Response.serialize({ payload: Buffer.alloc(0) })
  const tooLong = Buffer.alloc(10)
  tooLong.writeUInt32BE(MAX_MESSAGE_BYTES + 1)
  const answers: readonly (readonly [what: string, bytes: Buffer, end: boolean])[] = [
    ['an oversized frame', tooLong, false],
    ['a stream that was not begun', encodeFrame({ streamId: 99, type: 2, flags: 0, payload: response }), false],
    ['a stream of its own', encodeFrame({ streamId: 2, type: 2, flags: 0, payload: response }), false],
    ['stream data', encodeFrame({ streamId: 1, type: 3, flags: 0, payload: response }), false],
    ['a message that is none', encodeFrame({ streamId: 1, type: 2, flags: 0, payload: Buffer.from([0xff]) }), false],
    ['half a message', encodeFrame({ streamId: 1, type: 2, flags: 0, payload: response }).subarray(0, 7), true],
  ]

  it.each(answers)('that sends %s has lost it', async (_what, bytes, end) => {
    await using _server = await serveRaw((socket) => {
      socket.once('data', () => (end ? socket.end(bytes) : socket.write(bytes)))
    })
    using connection = await connect()
    await expect(wait(connection, 'a')).rejects.toMatchObject({ code: 'Unavailable' })
    await connection.closed
  })
})

describe('a ttrpc connection to a peer that does not read', () => {
  it('is given up before what is to be sent fills the memory', async () => {
    await using _server = await serveRaw(() => undefined)
    using connection = await connect()
    const calls = Array.from({ length: 20 }, () => wait(connection, 'x'.repeat(MAX_MESSAGE_BYTES / 2)))
    for (const call of await Promise.allSettled(calls)) expect(call).toMatchObject({ reason: { code: 'Unavailable' } })
    await connection.closed
  })
})

describe('a ttrpc connection into a virtual machine', () => {
  it('asks for the port first, and reads no more than the line that answers', async () => {
    const payload = messages.Response.serialize({ payload: methods.Wait.responseSerialize({ exit_status: 3 }) })
    const answer = encodeFrame({ streamId: 1, type: 2, flags: 0, payload })
    await using _server = await serveRaw((socket) => {
      socket.once('data', (asked) => {
        if (asked.toString() !== 'CONNECT 1024\n') socket.destroy()
        socket.once('data', () => socket.write(answer))
        socket.write('OK 1073741824\n')
      })
    })
    using connection = await connect({ vsockPort: 1024 })
    expect((await wait(connection, 'a')).exit_status).toBe(3)
  })

  it.each([
    ['nothing', ''],
    ['a refusal', 'ERR\n'],
    ['no end', 'O'.repeat(5000)],
  ])('is given up at %s', async (_what, line) => {
    await using _server = await serveRaw((socket) => socket.once('data', () => socket.end(line)))
    await expect(connect({ vsockPort: 1 })).rejects.toMatchObject({ code: 'Unavailable' })
  })
})

describe('TtrpcServer', () => {
  it('ends the connection of a client that breaks the protocol, and serves the others', async () => {
    await using _server = await serve(async () => 1)
    using good = await connect()
    const request = messages.Request.serialize({ service: SERVICE, method: 'Wait' })
    const tooLong = Buffer.alloc(10)
    tooLong.writeUInt32BE(MAX_MESSAGE_BYTES + 1)
    const twice = encodeFrame({ streamId: 1, type: 1, flags: 0, payload: request })
    const bad = [
      tooLong,
      encodeFrame({ streamId: 2, type: 1, flags: 0, payload: request }),
      encodeFrame({ streamId: 1, type: 3, flags: 0, payload: request }),
      encodeFrame({ streamId: 1, type: 1, flags: 0, payload: Buffer.from([0xff]) }),
      Buffer.concat([twice, twice]),
    ]
    for (const bytes of bad) {
      const socket = createConnection(path)
      socket.on('error', () => undefined)
      socket.resume().write(bytes)
      await once(socket, 'close')
    }
    expect((await wait(good, 'a')).exit_status).toBe(1)
  })

  it('answers InvalidArgument to a request that cannot be decoded', async () => {
    await using _server = await serve(async () => 1)
    using connection = await connect()
    const broken = { ...methods.Wait, requestSerialize: () => Buffer.from([0xff]) }
    const call = connection.call(SERVICE, 'Wait', broken, {}, { timeoutMs: 0, signal })
    await expect(call).rejects.toMatchObject({ code: 'InvalidArgument' })
  })

  it('tells a method that its caller has gone, and lets only the owner connect', async () => {
    let gone: string | undefined
    await using _server = await serve(async (_id, call) => {
      await once(call.signal, 'abort')
      gone = (call.signal.reason as CodedError).code
      return 0
    })
    expect(statSync(path).mode & 0o777).toBe(0o600)
    const connection = await connect()
    const call = wait(connection, 'a').catch((error: unknown) => error)
    await sleep(20)
    connection[Symbol.dispose]()
    expect(await call).toMatchObject({ code: 'Unavailable' })
    await expect.poll(() => gone).toBe('Canceled')
  })

  it('holds up a client that asks for more than it takes answers, and answers all in the end', async () => {
    const started: (() => void)[] = []
    await using _server = await serve(async () => {
      await new Promise<void>((resolve) => {
        started.push(resolve)
      })
      return 1
    })
    using connection = await connect()
    const calls = Array.from({ length: 3000 }, (_, index) => wait(connection, `${index}`))
    await expect.poll(() => started.length).toBeGreaterThanOrEqual(1024)
    await sleep(50)
    expect(started.length).toBeLessThan(2500)
    const release = setInterval(() => started.splice(0).forEach((resolve) => resolve()), 1)
    expect(await Promise.all(calls)).toHaveLength(3000)
    clearInterval(release)
  })
})

describe('a client that takes no answers', () => {
  it('is not read any more, until it does', async () => {
    await using _server = await serve(async () => 1)
    const socket = createConnection(path)
    // It comes back in the answer, which says that there is none.
    const method = 'x'.repeat(1024 * 1024)
    const payload = messages.Request.serialize({ service: SERVICE, method })
    for (let index = 0; index < 32; index++) {
      socket.write(encodeFrame({ streamId: 2 * index + 1, type: 1, flags: 0, payload }))
    }
    await sleep(500)
    expect(socket.writableLength).toBeGreaterThan(0)
    let receivedBytes = 0
    socket.on('data', (chunk: Buffer) => (receivedBytes += chunk.length))
    await expect.poll(() => receivedBytes, { timeout: 5000 }).toBeGreaterThan(32 * method.length)
    socket.destroy()
  })
})

/** A server that speaks as the test says. */
async function serveRaw(accept: (socket: Socket) => void): Promise<Server & AsyncDisposable> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => undefined))
    accept(socket)
  })
  server.listen(path)
  await once(server, 'listening')
  return Object.assign(server, {
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  })
}
