import { type IncomingMessage, request } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { pino } from 'pino'
import { sleep } from '../../../src/core/deadline.ts'
import { StreamingServer, type StreamingServerOptions } from '../../../src/streaming/server.ts'
import { FakeContainers } from '../../support/fake-containers.ts'
import type { FakeProcessStreams } from '../../support/fake-process-streams.ts'
import { FakeSandboxes } from '../../support/fake-sandboxes.ts'

export const EXEC = { command: ['sh'], stdin: true, stdout: true, stderr: true, terminal: false }
export const TERMINAL = { ...EXEC, stderr: false, terminal: true }
export const ATTACH = { stdin: true, stdout: true, stderr: true, terminal: false }
/** Of a request that is served, given a token. */
export const SPDY_HEADERS = {
  Connection: 'Upgrade',
  Upgrade: 'SPDY/3.1',
  'X-Stream-Protocol-Version': 'v4.channel.k8s.io',
}

const OPTIONS: StreamingServerOptions = {
  address: '127.0.0.1',
  port: 0,
  tlsCertFile: '',
  tlsKeyFile: '',
  tlsClientCaFile: '',
  baseUrl: '',
  idleTimeoutMs: 60_000,
  streamCreationTimeoutMs: 60_000,
  maxSessions: 100,
  maxPending: 100,
}

export interface Fixture extends AsyncDisposable {
  readonly server: StreamingServer
  readonly containers: FakeContainers
  readonly sandboxes: FakeSandboxes
  readonly logLines: string[]
  /** The process that was handed out last, as soon as there is one. */
  process(): Promise<FakeProcessStreams>
}

/** A streaming server on loopback, above fake containers. */
export async function startStreaming(changes: Partial<StreamingServerOptions> = {}): Promise<Fixture> {
  const [containers, sandboxes, logLines] = [new FakeContainers(), new FakeSandboxes(), [] as string[]]
  const logger = pino({ level: 'trace' }, { write: (line: string) => logLines.push(line) })
  const server = new StreamingServer({ ...OPTIONS, ...changes }, { containers, sandboxes, logger })
  await server.listen()
  return {
    server,
    containers,
    sandboxes,
    logLines,
    process: () => until(() => containers.processes.at(-1)),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

/** Waits for something to be there; a test that waits in vain fails by its own timeout. */
export async function until<T>(look: () => T | Promise<T>): Promise<Exclude<T, undefined | false>> {
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found as Exclude<T, undefined | false>
    await sleep(5)
  }
}

/** A request as it is, with its answer. */
export async function send(
  url: string,
  headers: Readonly<Record<string, string>> = {},
  method = 'POST',
): Promise<{ readonly status: number; readonly text: string; readonly headers: IncomingMessage['headers'] }> {
  const asked = request(url, { method, headers, agent: false }).end()
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    asked.on('response', resolve).on('error', reject)
    asked.on('upgrade', (upgraded, socket) => {
      socket.destroy()
      resolve(upgraded)
    })
  })
  const text = answer.statusCode === 101 ? '' : (await buffer(answer)).toString()
  return { status: answer.statusCode ?? 0, text, headers: answer.headers }
}
