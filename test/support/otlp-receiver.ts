import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'

/** A span as it arrived. */
export interface ReceivedSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string
  readonly name: string
  readonly attributes: Readonly<Record<string, unknown>>
  readonly failed: boolean
  /** The `service.version`, and the pid of whoever sent it. */
  readonly service: string
  readonly pid: number
}

/** A collector of traces: OTLP over HTTP, with JSON. */
export interface OtlpReceiver extends AsyncDisposable {
  readonly endpoint: string
  readonly spans: readonly ReceivedSpan[]
  readonly requests: () => number
}

interface Attribute {
  readonly key: string
  readonly value: Readonly<Record<string, unknown>>
}

interface Export {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] }
    readonly scopeSpans: readonly {
      readonly spans: readonly {
        readonly traceId: string
        readonly spanId: string
        readonly parentSpanId?: string
        readonly name: string
        readonly attributes: readonly Attribute[]
        readonly status: { readonly code?: number }
      }[]
    }[]
  }[]
}

/** Listens on loopback. @param answer the status of its answers. */
export async function openOtlpReceiver(answer = 200): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = []
  let requests = 0
  const server = createServer((request, response) => {
    requests++
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      if (answer === 200 && request.url === '/v1/traces') {
        spans.push(...spansOf(JSON.parse(Buffer.concat(chunks).toString()) as Export))
      }
      response.writeHead(answer, { 'Content-Type': 'application/json' }).end('{}')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    requests: () => requests,
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

const SCRIPT = `
const [port] = process.argv.slice(1)
const server = require('node:http').createServer((request, response) => {
  let body = ''
  request.on('data', (chunk) => (body += chunk))
  request.on('end', () => {
    console.log(JSON.stringify({ url: request.url, body }))
    response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}')
  })
})
server.listen(Number(port), '127.0.0.1', () => console.log('{}'))
`

/** One in a network namespace. */
export class NodeReceiver implements AsyncDisposable {
  readonly spans: ReceivedSpan[] = []
  readonly #process: ChildProcess

  private constructor(child: ChildProcess) {
    this.#process = child
  }

  /** @param node the name of the namespace. */
  static async start(node: string, port: number): Promise<NodeReceiver> {
    const args = [`--net=/run/netns/${node}`, '--', process.execPath, '-e', SCRIPT, String(port)]
    const child = spawn('/usr/bin/nsenter', args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const receiver = new NodeReceiver(child)
    const lines = createInterface(child.stdout)
    await once(lines, 'line')
    lines.on('line', (line) => {
      const { url, body } = JSON.parse(line) as { url: string; body: string }
      if (url === '/v1/traces') receiver.spans.push(...spansOf(JSON.parse(body) as Export))
    })
    return receiver
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await ended
  }
}

function spansOf({ resourceSpans }: Export): ReceivedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const of = valuesOf(resource.attributes)
    const sender = { service: String(of['service.version']), pid: Number(of['process.pid']) }
    return scopeSpans.flatMap(({ spans }) =>
      spans.map(({ traceId, spanId, parentSpanId = '', name, attributes, status }) => {
        return {
          traceId,
          spanId,
          parentSpanId,
          name,
          attributes: valuesOf(attributes),
          failed: status.code === 2,
          ...sender,
        }
      }),
    )
  })
}

function valuesOf(attributes: readonly Attribute[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))
}
