import { type ExportResult, ExportResultCode } from '@opentelemetry/core'
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace'
import { errorMessage } from '../core/errors.ts'
import type { Logger } from './logger.ts'

/** An exporter of spans that says once when the collector cannot be reached, and once when it can again. */
export class ReportingExporter implements SpanExporter {
  readonly #inner: SpanExporter
  readonly #logger: Logger
  #lost = 0

  constructor(inner: SpanExporter, deps: { readonly logger: Logger }) {
    this.#inner = inner
    this.#logger = deps.logger
  }

  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.#inner.export(spans, (result) => {
      this.#note(result, spans.length)
      // It has been told; what hears of it beyond that can do nothing about it.
      done({ code: ExportResultCode.SUCCESS })
    })
  }

  async shutdown(): Promise<void> {
    await this.#inner.shutdown()
  }

  async forceFlush(): Promise<void> {
    await this.#inner.forceFlush?.()
  }

  #note({ code, error }: ExportResult, count: number): void {
    if (code === ExportResultCode.SUCCESS) {
      if (this.#lost > 0) this.#logger.info({ lost: this.#lost }, 'spans are sent again')
      this.#lost = 0
      return
    }
    const isFirst = this.#lost === 0
    this.#lost += count
    if (isFirst)
      this.#logger.warn({ error: errorMessage(error) }, 'spans cannot be sent to the collector, and are lost')
  }
}
