import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { describe, expect, it, onTestFinished } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import type { Activity } from '../../../src/core/observer.ts'
import { Logs } from '../../../src/telemetry/logs.ts'
import { Tracing } from '../../../src/telemetry/tracing.ts'
import { type OtlpReceiver, openOtlpReceiver, type ReceivedSpan } from '../../support/otlp-receiver.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const CALLER = 'b7ad6b7169203331'

function rpc(headers: Record<string, string> = {}): Activity {
  return { kind: 'rpc', name: 'RunPodSandbox', service: 'runtime.v1.RuntimeService', header: (name) => headers[name] }
}

const step: Activity = { kind: 'step', name: 'save', operation: 'run' }
const quiet = pino({ level: 'silent' })

function openTracing(endpoint: string, sampleRatio = 1, logger = quiet): Tracing {
  return new Tracing({ endpoint, sampleRatio, version: '1.2.3', flushMs: 1000 }, { logger })
}

async function openReceiver(answer?: number): Promise<OtlpReceiver> {
  const receiver = await openOtlpReceiver(answer)
  onTestFinished(async () => receiver[Symbol.asyncDispose]())
  return receiver
}

function named({ spans }: OtlpReceiver, name: string): ReceivedSpan {
  const span = spans.find((candidate) => candidate.name === name)
  if (!span) throw new Error(`no span ${name} in ${spans.map((one) => one.name).join(', ')}`)
  return span
}

describe('Tracing', () => {
  it('goes on with the trace of the caller, and makes a tree', async () => {
    const receiver = await openReceiver()
    const tracing = openTracing(receiver.endpoint)
    const headers = { traceparent: `00-${TRACE}-${CALLER}-01`, tracestate: 'vendor=1' }
    let sent: Record<string, string> = {}
    await tracing.run(rpc(headers), () =>
      tracing.run({ kind: 'operation', name: 'run', id: 'pod' }, () =>
        tracing.run(step, async () => {
          await tracing.run({ kind: 'sandboxer', name: 'Create', sandboxer: 'vm', id: 'pod' }, async () => {
            sent = tracing.headers()
          })
        }),
      ),
    )
    await tracing[Symbol.asyncDispose]()
    const [call, operation, save, create] = [
      'runtime.v1.RuntimeService/RunPodSandbox',
      'run',
      'save',
      'containerd.services.sandbox.v1.Controller/Create',
    ].map((name) => named(receiver, name))
    expect(receiver.spans.map(({ traceId }) => traceId)).toEqual([TRACE, TRACE, TRACE, TRACE])
    expect(call).toMatchObject({ parentSpanId: CALLER, service: '1.2.3', pid: process.pid, failed: false })
    expect(operation).toMatchObject({ parentSpanId: call?.spanId, attributes: { 'sandboxerd.id': 'pod' } })
    expect(save).toMatchObject({ parentSpanId: operation?.spanId })
    expect(create).toMatchObject({ parentSpanId: save?.spanId })
    expect(sent).toEqual({ traceparent: `00-${TRACE}-${create?.spanId}-01`, tracestate: 'vendor=1' })
  })

  it('notes what went wrong, and throws it on', async () => {
    const receiver = await openReceiver()
    const tracing = openTracing(receiver.endpoint)
    const error = new CodedError('NotFound', 'there is none')
    await expect(tracing.run(rpc(), async () => Promise.reject(error))).rejects.toBe(error)
    await tracing[Symbol.asyncDispose]()
    const attributes = { 'rpc.grpc.status_code': 5, 'error.type': 'NotFound' }
    expect(receiver.spans).toMatchObject([{ failed: true, attributes, parentSpanId: '' }])
  })

  it('begins traces with calls and operations only, and not with what a watch does that was left behind', async () => {
    const receiver = await openReceiver()
    const tracing = openTracing(receiver.endpoint)
    let later: Promise<unknown> = Promise.resolve()
    await tracing.run(step, async () => undefined)
    await tracing.run(rpc(), async () => {
      later = sleep(20).then(async () => {
        expect(tracing.headers()).toEqual({})
        expect(tracing.logFields()).toEqual({})
        await tracing.run(step, async () => undefined)
        await tracing.run({ kind: 'operation', name: 'stop', id: 'pod' }, async () => undefined)
      })
    })
    await later
    await tracing[Symbol.asyncDispose]()
    expect(receiver.spans.map(({ name, parentSpanId }) => [name, parentSpanId])).toEqual([
      ['runtime.v1.RuntimeService/RunPodSandbox', ''],
      ['stop', ''],
    ])
    expect(new Set(receiver.spans.map(({ traceId }) => traceId)).size).toBe(2)
  })

  it('keeps what the caller keeps, and of its own traces the part that is wanted', async () => {
    const receiver = await openReceiver()
    const tracing = openTracing(receiver.endpoint, 0)
    const kept = rpc({ traceparent: `00-${TRACE}-${CALLER}-01` })
    const dropped = rpc({ traceparent: `00-${TRACE}-${CALLER}-00` })
    let headers = ''
    for (const activity of [rpc(), dropped, kept, rpc({ traceparent: 'nonsense' })]) {
      await tracing.run(activity, async () => {
        if (activity === dropped) headers = tracing.headers()['traceparent'] ?? ''
      })
    }
    await tracing[Symbol.asyncDispose]()
    expect(receiver.spans.map(({ parentSpanId }) => parentSpanId)).toEqual([CALLER])
    expect(headers).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-00$`))
  })

  it('puts the ids of the span into log lines', async () => {
    const lines: string[] = []
    const logs = new Logs({ level: 'info', levels: {}, format: 'json' }, { write: (line) => void lines.push(line) })
    const receiver = await openReceiver()
    const tracing = openTracing(receiver.endpoint)
    logs.setContext(() => tracing.logFields())
    logs.of('daemon').info('outside')
    await tracing.run(rpc({ traceparent: `00-${TRACE}-${CALLER}-01` }), async () =>
      logs.of('cni').info({ a: 1 }, 'inside'),
    )
    await tracing[Symbol.asyncDispose]()
    const [outside, inside] = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(outside).not.toHaveProperty('trace_id')
    expect(inside).toMatchObject({ a: 1, trace_id: TRACE, span_id: receiver.spans[0]?.spanId })
  })

  it('says once that a collector is not there, and ends in time', async () => {
    const lines: string[] = []
    const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) })
    const receiver = await openReceiver(400)
    const tracing = openTracing(receiver.endpoint, 1, logger)
    // More than one export's worth.
    for (let i = 0; i < 2000; i++) await tracing.run(rpc(), async () => undefined)
    await expect.poll(() => receiver.requests()).toBeGreaterThan(1)
    await tracing[Symbol.asyncDispose]()
    expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual([
      'spans cannot be sent to the collector, and are lost',
    ])
  })

  it.each([
    ['hangs', () => undefined],
    ['answers with garbage', (socket: Socket) => socket.write('HTTP/1.1 garbage\r\n\r\n')],
    ['answers with garbage of JSON', (socket: Socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{')],
    ['answers without an end', (socket: Socket) => socket.write('HTTP/1.1 200 OK\r\n\r\n{')],
    ['hangs up', (socket: Socket) => socket.destroy()],
  ])('lets nobody wait for a collector that %s, nor the end for long', async (_how, onData) => {
    const sockets = new Set<Socket>()
    const collector = createServer((socket) => {
      sockets.add(socket)
      socket.on('error', () => undefined).on('data', () => void onData(socket))
    })
    collector.listen(0, '127.0.0.1')
    await once(collector, 'listening')
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy()
      collector.close()
    })
    const tracing = openTracing(`http://127.0.0.1:${(collector.address() as AddressInfo).port}`)
    // More than one export's worth.
    for (let i = 0; i < 600; i++) await expect(tracing.run(rpc(), async () => i)).resolves.toBe(i)
    await tracing[Symbol.asyncDispose]()
    expect(sockets.size).toBeGreaterThan(0)
  })

  it('does not wait for a collector that refuses connections when it ends', async () => {
    const receiver = await openOtlpReceiver()
    await receiver[Symbol.asyncDispose]()
    const lines: string[] = []
    const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) })
    const tracing = openTracing(receiver.endpoint, 1, logger)
    await tracing.run(rpc(), async () => undefined)
    await tracing[Symbol.asyncDispose]()
    // It is being tried still, and would be for seconds.
    expect(lines).toEqual([])
  })
})
