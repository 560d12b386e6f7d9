import { once } from 'node:events'
import { chmodSync, existsSync, linkSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:http2'
import { createConnection, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client, credentials, type ServiceDefinition, type ServiceError, status } from '@grpc/grpc-js'
import { service as healthService } from 'grpc-health-check'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sleep } from '../../../src/core/deadline.ts'
import { type CallContext, serverStream, unary } from '../../../src/grpc/handler.ts'
import { loadCri, loadSandboxApi } from '../../../src/grpc/load.ts'
import { GrpcServer } from '../../../src/grpc/server.ts'
import { HeldSocket } from '../../support/held-socket.ts'

const logger = pino({ level: 'silent' })
const cri = loadCri().runtime.v1
const SERVICE = 'runtime.v1.RuntimeService'

let directory: string
let socketPath: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sandboxerd-grpc-'))
  socketPath = join(directory, 'a.sock')
})
afterEach(() => rmSync(directory, { recursive: true }))

function newServer(options: { mode?: number; group?: string } = {}): GrpcServer {
  return new GrpcServer({ socketPath, mode: options.mode ?? 0o600, group: options.group ?? '' }, { logger })
}

function newClient() {
  return new cri.RuntimeService(`unix:${socketPath}`, credentials.createInsecure())
}

/** A socket file whose listener is gone, as after a kill. */
async function leaveStaleSocket(): Promise<void> {
  const listener = createServer()
  // The listener takes its own name away when it closes; the second one stays.
  listener.listen(`${socketPath}.live`)
  await once(listener, 'listening')
  linkSync(`${socketPath}.live`, socketPath)
  listener.close()
  await once(listener, 'close')
}

describe('GrpcServer.listen', () => {
  it('replaces a socket on which nobody answers', async () => {
    await leaveStaleSocket()
    expect(statSync(socketPath).isSocket()).toBe(true)
    await using server = newServer()
    server.addService(cri.RuntimeService.service, {})
    await server.listen()
    expect(await healthOf('')).toBe('NOT_SERVING')
  })

  it('leaves a socket alone that another daemon serves', async () => {
    await using first = newServer()
    await first.listen()
    await using second = newServer()
    await expect(second.listen()).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: `listen on ${socketPath}: another daemon serves it`,
    })
    expect(await healthOf('')).toBe('NOT_SERVING')
  })

  it('leaves a file alone that is no socket', async () => {
    writeFileSync(socketPath, 'precious')
    await using server = newServer()
    await expect(server.listen()).rejects.toMatchObject({ code: 'FailedPrecondition' })
    expect(statSync(socketPath).size).toBe(8)
  })

  it('sets the mode, and a group by its id', async () => {
    const gid = process.getegid?.() ?? 0
    await using server = newServer({ mode: 0o660, group: String(gid) })
    await server.listen()
    expect(statSync(socketPath).mode & 0o777).toBe(0o660)
    expect(statSync(socketPath).gid).toBe(gid)
  })

  it('refuses a group that does not exist, before it listens', async () => {
    await using server = newServer({ group: 'no-such-group' })
    await expect(server.listen()).rejects.toMatchObject({ code: 'FailedPrecondition' })
    expect(existsSync(socketPath)).toBe(false)
  })

  it('tells why a socket cannot be bound', async () => {
    socketPath = join(directory, 'missing', 'a.sock')
    await using server = newServer()
    await expect(server.listen()).rejects.toMatchObject({
      code: 'Unavailable',
      message: expect.stringContaining(socketPath) as string,
    })
  })
})

describe('GrpcServer on a socket that somebody else holds', () => {
  it('leaves its file alone; who connects while nobody serves is answered by the next server', async () => {
    using held = new HeldSocket(socketPath)
    chmodSync(socketPath, 0o640)
    const serve = async (version: string): Promise<GrpcServer> => {
      const options = { socketPath, mode: 0o600, group: 'no-such-group', fd: held.handOver() }
      const server = new GrpcServer(options, { logger })
      server.addService(cri.RuntimeService.service, { Version: unary(async () => ({ version }), { logger }) })
      await server.listen()
      return server
    }
    const client = newClient()
    const early = versionOf(client)
    const first = await serve('first')
    expect(await early).toBe('first')
    await first.close(1000)
    expect(statSync(socketPath).mode & 0o777).toBe(0o640)

    const waiting = versionOf(client)
    expect(await Promise.race([waiting, sleep(300).then(() => 'waits')])).toBe('waits')
    await using _second = await serve('second')
    expect(await waiting).toBe('second')
    client.close()
  })

  it('answers what is under way when it closes, and accepts nothing more', async () => {
    using held = new HeldSocket(socketPath)
    const server = new GrpcServer({ socketPath, mode: 0o600, group: '', fd: held.handOver() }, { logger })
    const slow = unary(
      async () => {
        await sleep(200)
        return { version: 'late' }
      },
      { logger },
    )
    server.addService(cri.RuntimeService.service, { Version: slow })
    await server.listen()
    const client = newClient()
    const answer = versionOf(client)
    await sleep(50)
    const closed = server.close(5000)
    const other = newClient()
    const unanswered = versionOf(other).catch(() => 'never')
    await closed
    expect(await answer).toBe('late')
    expect(await Promise.race([unanswered, sleep(100).then(() => 'waits')])).toBe('waits')
    for (const one of [client, other]) one.close()
    await unanswered
  })

  it('tells of a descriptor that it cannot listen on', async () => {
    await using server = new GrpcServer({ socketPath, mode: 0o600, group: '', fd: 9999 }, { logger })
    await expect(server.listen()).rejects.toMatchObject({ code: 'Unavailable' })
  })
})

describe('GrpcServer health', () => {
  it('tells it of the whole and of each service', async () => {
    await using server = newServer()
    server.addService(cri.RuntimeService.service, {})
    await server.listen()
    expect(await healthOf(SERVICE)).toBe('NOT_SERVING')
    server.setServing(true, SERVICE)
    expect([await healthOf(SERVICE), await healthOf('')]).toEqual(['SERVING', 'NOT_SERVING'])
    server.setServing(true)
    expect([await healthOf(SERVICE), await healthOf('')]).toEqual(['SERVING', 'SERVING'])
    await expect(healthOf('nobody')).rejects.toMatchObject({ code: status.NOT_FOUND })
  })
})

describe('GrpcServer.close', () => {
  it('waits for calls under way and takes the socket file away', async () => {
    const server = newServer()
    let isClosed = false
    const handler = unary(
      async () => {
        await sleep(50)
        expect(isClosed).toBe(false)
        return { version: 'late' }
      },
      { logger },
    )
    server.addService(cri.RuntimeService.service, { Version: handler })
    await server.listen()
    const client = newClient()
    const answer = versionOf(client)
    await sleep(20)
    await server.close(10_000)
    isClosed = true
    expect(await answer).toBe('late')
    expect(existsSync(socketPath)).toBe(false)
    client.close()
  })

  it('cuts off what does not end in time, and aborts its signal', async () => {
    const server = newServer()
    const contexts: CallContext[] = []
    const handler = unary(
      async (_request: unknown, context) => {
        contexts.push(context)
        await sleep(60_000, context.signal)
        return {}
      },
      { logger },
    )
    server.addService(cri.RuntimeService.service, { Version: handler })
    await server.listen()
    const client = newClient()
    const refused = expect(versionOf(client)).rejects.toMatchObject({ code: expect.any(Number) as number })
    await expect.poll(() => contexts.length).toBe(1)
    await Promise.all([server.close(30), server.close(60_000)])
    await refused
    await expect.poll((): unknown => contexts[0]?.signal.reason).toMatchObject({ code: 'Canceled' })
    expect(contexts[0]?.deadline).toBeUndefined()
    client.close()
  })

  it('can be called on a server that never listened', async () => {
    await newServer().close(1000)
  })
})

describe('serverStream', () => {
  it('does not run ahead of a reader that has stopped reading', async () => {
    await using server = newServer()
    let produced = 0
    const big = 'x'.repeat(256 * 1024)
    const handler = serverStream(
      async function* () {
        while (produced < 200) {
          produced += 1
          yield { pod_sandboxes: [{ id: big }] }
        }
      },
      { logger },
    )
    server.addService(cri.RuntimeService.service, { StreamPodSandboxes: handler })
    await server.listen()
    // Plain HTTP/2: the client of grpc-js reads whether anybody wants it or not.
    const session = connect('http://localhost', { createConnection: () => createConnection(socketPath) })
    const stream = session.request({
      ':method': 'POST',
      ':path': `/${SERVICE}/StreamPodSandboxes`,
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    stream.end(Buffer.alloc(5))
    await expect.poll(() => produced).toBeGreaterThan(0)
    await sleep(200)
    expect(produced).toBeLessThan(10)
    let bytes = 0
    for await (const part of stream as AsyncIterable<Buffer>) bytes += part.length
    expect(produced).toBe(200)
    expect(bytes).toBeGreaterThan(200 * big.length)
    session.close()
  })

  it('ends the method when the reader goes away', async () => {
    await using server = newServer()
    const ended: unknown[] = []
    const handler = serverStream(
      async function* (_request: unknown, { signal }) {
        try {
          yield {}
          await sleep(60_000, signal)
        } catch (error) {
          ended.push(error)
          throw error
        }
      },
      { logger },
    )
    server.addService(cri.RuntimeService.service, { StreamPodSandboxes: handler })
    await server.listen()
    const client = newClient()
    const stream = client.StreamPodSandboxes({})
    stream.on('error', () => {})
    stream.once('data', () => stream.cancel())
    await expect.poll(() => ended).toMatchObject([{ code: 'Canceled' }])
    client.close()
  })

  it('sends the messages before a failure, then its status', async () => {
    await using server = newServer()
    const handler = serverStream(
      async function* () {
        yield {}
        throw new RangeError('out of range')
      },
      { logger },
    )
    server.addService(cri.RuntimeService.service, { StreamPodSandboxes: handler })
    await server.listen()
    const client = newClient()
    let received = 0
    const read = async (): Promise<void> => {
      for await (const _part of client.StreamPodSandboxes({})) received += 1
    }
    await expect(read()).rejects.toMatchObject({ code: status.INTERNAL, details: 'out of range' })
    expect(received).toBe(1)
    client.close()
  })
})

describe('loadSandboxApi', () => {
  it('holds the Controller with int64 times as strings', () => {
    const { Controller } = loadSandboxApi().containerd.services.sandbox.v1
    const { responseSerialize, responseDeserialize } = Controller.service.Wait
    const answer = { exit_status: 137, exited_at: { seconds: '9007199254740993', nanos: 5 } }
    expect(responseDeserialize(responseSerialize(answer))).toEqual(answer)
  })
})

function versionOf(client: InstanceType<typeof cri.RuntimeService>): Promise<string> {
  return new Promise((resolve, reject) => {
    client.Version({}, (error, response) => (error === null ? resolve(response?.version ?? '') : reject(error)))
  })
}

async function healthOf(service: string): Promise<string> {
  const { Check: check } = healthService as unknown as ServiceDefinition
  if (check === undefined) throw new Error('the health service has no check')
  const client = new Client(`unix:${socketPath}`, credentials.createInsecure())
  try {
    return await new Promise<string>((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = check
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        { service },
        (error: ServiceError | null, answer?: { status: string }) =>
          error === null ? resolve(answer?.status ?? '') : reject(error),
      )
    })
  } finally {
    client.close()
  }
}
