import { AsyncLocalStorage } from 'node:async_hooks'
import { hostname } from 'node:os'
import {
  type Attributes,
  type Context,
  defaultTextMapSetter,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import { sleep } from '../core/deadline.ts'
import { errorCode, errorMessage } from '../core/errors.ts'
import type { Activity, Observer } from '../core/observer.ts'
import { redactText } from '../core/redact-text.ts'
import { STATUS_NUMBERS } from '../core/status-codes.ts'
import type { Logger } from './logger.ts'
import { ReportingExporter } from './reporting-exporter.ts'

// Loaded only where traces are wanted. Nothing is registered with OpenTelemetry's global API, and nothing asks it.

/** Spans that wait for the collector; more are dropped. */
const MAX_WAITING_SPANS = 4096
const EXPORT_INTERVAL_MS = 2000
/** One export, with all that is tried again. */
const EXPORT_MS = 5000
const MAX_MESSAGE_CHARS = 1024

export interface TracingOptions {
  /** Of an OTLP/HTTP collector: `http://127.0.0.1:4318`. */
  readonly endpoint: string
  /** Which part of the traces that begin here is kept, from 0 to 1; a caller decides about its own. */
  readonly sampleRatio: number
  readonly version: string
  /** How long the end may take to send what waits. */
  readonly flushMs: number
}

/**
 * Holds the span that goes on. It is empty afterwards: what is begun then, by a watch that was left behind, say, is none of
 * its work, and does not keep it in memory.
 */
interface Live {
  now: { readonly span: Span; readonly context: Context } | undefined
}

/** Makes a span of every activity that has a parent, and of calls and operations that have none. */
export class Tracing implements Observer, AsyncDisposable {
  readonly #options: TracingOptions
  readonly #logger: Logger
  readonly #live = new AsyncLocalStorage<Live>()
  readonly #propagator = new W3CTraceContextPropagator()
  readonly #provider: TracerProvider
  readonly #tracer: Tracer

  constructor(options: TracingOptions, deps: { readonly logger: Logger }) {
    this.#options = options
    this.#logger = deps.logger
    const url = `${options.endpoint.replace(/\/$/, '')}/v1/traces`
    const exporter = new ReportingExporter(new OTLPTraceExporter({ url, timeoutMillis: EXPORT_MS }), {
      logger: deps.logger,
    })
    this.#provider = new TracerProvider({
      resource: resourceFromAttributes({
        'service.name': 'sandboxerd',
        'service.version': options.version,
        'host.name': hostname(),
        'process.pid': process.pid,
      }),
      sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(options.sampleRatio) }),
      spanProcessors: [
        new BatchSpanProcessor({
          exporter,
          maxQueueSize: MAX_WAITING_SPANS,
          scheduledDelayMillis: EXPORT_INTERVAL_MS,
          exportTimeoutMillis: 2 * EXPORT_MS,
        }),
      ],
    })
    this.#tracer = this.#provider.getTracer('sandboxerd', options.version)
  }

  async run<T>(activity: Activity, work: () => Promise<T>): Promise<T> {
    const parent = this.#parentOf(activity)
    if (!parent) return work()
    const kind = SPAN_KINDS[activity.kind] ?? SpanKind.INTERNAL
    const span = this.#tracer.startSpan(nameOf(activity), { kind, attributes: attributesOf(activity) }, parent)
    const live: Live = { now: { span, context: trace.setSpan(parent, span) } }
    try {
      return await this.#live.run(live, work)
    } catch (error) {
      noteFailure(activity, span, error)
      throw error
    } finally {
      live.now = undefined
      span.end()
    }
  }

  headers(): Readonly<Record<string, string>> {
    const live = this.#current()
    const headers: Record<string, string> = {}
    if (live) this.#propagator.inject(live.context, headers, defaultTextMapSetter)
    return headers
  }

  /** What a log line says of the span in which it is written. */
  logFields(): Record<string, string> {
    const live = this.#current()
    if (!live) return {}
    const { traceId, spanId } = live.span.spanContext()
    return { trace_id: traceId, span_id: spanId }
  }

  /** Sends what waits, as long as it may take, and makes no more spans. */
  async [Symbol.asyncDispose](): Promise<void> {
    const given = new AbortController()
    const shutdown = this.#provider.shutdown().catch((error: unknown) => {
      this.#logger.debug({ error: errorMessage(error) }, 'the last spans were not sent')
    })
    // What is still being sent then is lost with the process.
    await Promise.race([shutdown, sleep(this.#options.flushMs, given.signal).catch(() => undefined)])
    given.abort()
  }

  #current(): Live['now'] {
    return this.#live.getStore()?.now
  }

  /** Undefined for what makes no span: a trace begins with somebody's call, or with an operation. */
  #parentOf(activity: Activity): Context | undefined {
    if (activity.kind === 'rpc') return this.#propagator.extract(ROOT_CONTEXT, activity.header, HEADER_GETTER)
    return this.#current()?.context ?? (activity.kind === 'operation' ? ROOT_CONTEXT : undefined)
  }
}

const HEADER_GETTER = {
  get: (header: (name: string) => string | undefined, name: string): string | undefined => header(name),
  keys: (): string[] => [],
}

const SPAN_KINDS: Readonly<Partial<Record<Activity['kind'], SpanKind>>> = {
  rpc: SpanKind.SERVER,
  sandboxer: SpanKind.CLIENT,
  runtime: SpanKind.CLIENT,
}

const CONTROLLER_SERVICE = 'containerd.services.sandbox.v1.Controller'

function nameOf(activity: Activity): string {
  switch (activity.kind) {
    case 'rpc':
      return `${activity.service}/${activity.name}`
    case 'sandboxer':
      return `${CONTROLLER_SERVICE}/${activity.name}`
    case 'cni':
      return `${activity.plugin} ${activity.name}`
    case 'runtime':
      return `${activity.runtime} ${activity.name}`
    case 'store':
    case 'image':
      return `${activity.kind} ${activity.name}`
    default:
      return activity.name
  }
}

/** In the words of OpenTelemetry's semantic conventions, where they have any. */
function attributesOf(activity: Activity): Attributes {
  const id = activity.id === undefined ? {} : { 'sandboxerd.id': activity.id }
  switch (activity.kind) {
    case 'rpc':
      return {
        'rpc.system': 'grpc',
        'rpc.service': activity.service,
        'rpc.method': activity.name,
        'rpc.grpc.status_code': 0,
        ...id,
      }
    case 'sandboxer': {
      const rpc = { 'rpc.system': 'grpc', 'rpc.service': CONTROLLER_SERVICE, 'rpc.method': activity.name }
      return { ...rpc, 'sandboxerd.sandboxer': activity.sandboxer, ...id }
    }
    default:
      return { 'sandboxerd.kind': activity.kind, ...id }
  }
}

function noteFailure(activity: Activity, span: Span, error: unknown): void {
  const code = errorCode(error)
  // What callers are told, too.
  span.setStatus({ code: SpanStatusCode.ERROR, message: redactText(errorMessage(error)).slice(0, MAX_MESSAGE_CHARS) })
  span.setAttribute('error.type', code)
  if (activity.kind === 'rpc') span.setAttribute('rpc.grpc.status_code', STATUS_NUMBERS[code])
}
