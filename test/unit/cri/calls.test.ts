import { randomBytes } from 'node:crypto'
import { connect } from 'node:http2'
import { createConnection } from 'node:net'
import { type ServiceError, status } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { waitFor } from '../../../src/core/deadline.ts'
import { CodedError } from '../../../src/core/errors.ts'
import { type FakeCall, podConfig } from '../../support/fake-sandboxes.ts'
import { ask, type CriServer, callWithBytes, cri, start, startCri } from './cri-server.ts'

let server: CriServer

beforeEach(async () => {
  server = await startCri()
})
afterEach(async () => await server[Symbol.asyncDispose]())

/** Makes RunPodSandbox hang until its signal aborts; tells when it has begun, and with what it ended. */
function hangingRun(): { begun: Promise<FakeCall>; ended: Promise<unknown> } {
  const begun = new Promise<FakeCall>((resolve) => {
    server.sandboxes.inTheWay = async (call) => {
      resolve(call)
      await waitFor(new Promise<never>(() => {}), call.signal)
    }
  })
  const ended = begun.then(({ signal }) =>
    waitFor(new Promise<never>(() => {}), signal).catch((reason: unknown) => reason),
  )
  return { begun, ended }
}

describe('a call that its caller gives up', () => {
  it('aborts the signal as canceled', async () => {
    const { begun, ended } = hangingRun()
    const { answer, cancel } = start(server.client, 'RunPodSandbox', { config: podConfig() })
    const refused = expect(answer).rejects.toMatchObject({ code: status.CANCELLED })
    await begun
    cancel()
    expect(await ended).toMatchObject({ code: 'Canceled' })
    await refused
  })

  it('aborts the signal at the deadline', async () => {
    const { ended } = hangingRun()
    const deadline = Date.now() + 300
    const answer = ask(server.client, 'RunPodSandbox', { config: podConfig() }, { deadline })
    await expect(answer).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED })
    expect(await ended).toMatchObject({ code: 'DeadlineExceeded' })
  })

  it('aborts the signal when the connection is lost', async () => {
    const { begun, ended } = hangingRun()
    const session = connect('http://localhost', { createConnection: () => createConnection(server.socketPath) })
    const request = cri.RuntimeService.service.RunPodSandbox.requestSerialize({ config: podConfig() })
    const prefix = Buffer.alloc(5)
    prefix.writeUInt32BE(request.length, 1)
    const stream = session.request({
      ':method': 'POST',
      ':path': '/runtime.v1.RuntimeService/RunPodSandbox',
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    stream.on('error', () => {})
    stream.end(Buffer.concat([prefix, request]))
    await begun
    session.destroy()
    expect(await ended).toMatchObject({ code: 'Canceled' })
  })

  it('does not abort the signal of a call that was answered', async () => {
    await ask(server.client, 'StopPodSandbox', { pod_sandbox_id: 'x' })
    await ask(server.client, 'Version', {})
    expect(server.sandboxes.calls).toHaveLength(1)
    expect(server.sandboxes.calls[0]?.signal.aborted).toBe(false)
  })
})

describe('messages that are too large', () => {
  it('answers 17 MiB with RESOURCE_EXHAUSTED and goes on', async () => {
    const config = podConfig({ annotations: { text: 'x'.repeat(17 * 1024 * 1024) } })
    const answer = ask(server.client, 'RunPodSandbox', { config })
    await expect(answer).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED })
    expect(server.sandboxes.calls).toEqual([])
    await ask(server.client, 'Version', {})
  })

  it('reads 15 MiB, to say which field is too large', async () => {
    const config = podConfig({ annotations: { text: 'x'.repeat(15 * 1024 * 1024) } })
    const answer = ask(server.client, 'RunPodSandbox', { config })
    await expect(answer).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(/^config\.annotations: /) as string,
    })
  })
})

describe('bytes that are no message', () => {
  it('answers INVALID_ARGUMENT for a request that is cut off', async () => {
    // Field 1, 127 bytes long, of which there is one.
    const answer = callWithBytes(server.client, 'RunPodSandbox', Buffer.from([0x0a, 0x7f, 0x00]))
    await expect(answer).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(
        /^request: not a message of \/runtime\.v1\.RuntimeService\/RunPodSandbox: /,
      ) as string,
    })
  })

  it('answers random requests with a status that blames them, and runs nothing', async () => {
    for (let attempt = 0; attempt < 200; attempt += 1) {
      const answer = callWithBytes(server.client, 'RunPodSandbox', randomBytes(1 + (attempt % 64)))
      await expect(answer).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
    }
    expect(server.sandboxes.calls).toEqual([])
  })

  it('survives connections that speak no HTTP/2', async () => {
    for (let attempt = 0; attempt < 20; attempt += 1) {
      await new Promise<void>((resolve) => {
        const socket = createConnection(server.socketPath, () => socket.end(randomBytes(4096)))
        socket.on('error', () => {})
        socket.on('close', () => resolve())
        socket.resume()
      })
    }
    await ask(server.client, 'Version', {})
  })
})

describe('int64 fields', () => {
  it('arrive exactly beyond 2^53', async () => {
    const config = podConfig({
      linux: {
        cgroup_parent: '',
        sysctls: {},
        overhead: null,
        security_context: null,
        resources: {
          cpu_period: '0',
          cpu_quota: '0',
          cpu_shares: '0',
          memory_limit_in_bytes: '9007199254740993',
          memory_swap_limit_in_bytes: '9223372036854775807',
          oom_score_adj: '0',
          cpuset_cpus: '',
          cpuset_mems: '',
          hugepage_limits: [{ page_size: '2MB', limit: '18446744073709551615' }],
          unified: {},
        },
      },
    })
    await ask(server.client, 'RunPodSandbox', { config })
    expect(server.sandboxes.views[0]?.metadata.config).toEqual(config)
  })
})

describe('errors', () => {
  it.each([
    [new CodedError('FailedPrecondition', 'x'), status.FAILED_PRECONDITION, 'x'],
    [new CodedError('AlreadyExists', 'x', { cause: new Error('y') }), status.ALREADY_EXISTS, 'x: y'],
    [new CodedError('DataLoss', 'x'), status.DATA_LOSS, 'x'],
    [new CodedError('Aborted', 'a\nb'), status.ABORTED, 'a; b'],
    [new TypeError('x is not a function'), status.INTERNAL, 'x is not a function'],
    ['a string', status.INTERNAL, 'a string'],
    [undefined, status.INTERNAL, 'undefined'],
    [new Error('half a pair: \ud83d.'), status.INTERNAL, 'half a pair: \ufffd.'],
  ])('%s becomes status %i', async (thrown, code, details) => {
    server.sandboxes.inTheWay = async () => {
      // oxlint-disable-next-line typescript/only-throw-error -- some libraries do
      throw thrown
    }
    const answer = ask(server.client, 'StopPodSandbox', { pod_sandbox_id: 'x' })
    await expect(answer).rejects.toMatchObject({ code, details })
    await ask(server.client, 'Version', {})
  })

  it('are cut to what a header holds', async () => {
    server.sandboxes.inTheWay = async () => {
      throw new CodedError('Unavailable', '€'.repeat(100_000))
    }
    const answer = ask(server.client, 'StopPodSandbox', { pod_sandbox_id: 'x' })
    const { code, details } = (await answer.catch((error: unknown) => error)) as ServiceError
    expect(code).toBe(status.UNAVAILABLE)
    expect(details.length).toBe(4096)
  })

  it('leave one line per call in the log, and only what nobody foresaw as an error', async () => {
    await ask(server.client, 'Version', {})
    const stop = () => ask(server.client, 'StopPodSandbox', { pod_sandbox_id: 'x' })
    server.sandboxes.inTheWay = async () => {
      throw new CodedError('Unavailable', 'x')
    }
    await expect(stop()).rejects.toThrow()
    server.sandboxes.inTheWay = async () => {
      throw new TypeError('x')
    }
    await expect(stop()).rejects.toThrow()
    const lines = server.logLines.map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(lines.map(({ level, method, code }) => ({ level, method, code }))).toEqual([
      { level: 20, method: '/runtime.v1.RuntimeService/Version', code: 'OK' },
      { level: 20, method: '/runtime.v1.RuntimeService/StopPodSandbox', code: 'UNAVAILABLE' },
      { level: 50, method: '/runtime.v1.RuntimeService/StopPodSandbox', code: 'INTERNAL' },
    ])
  })
})
