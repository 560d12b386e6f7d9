import type { PullProgress } from '../../admin/api.ts'
import { formatBytes } from '../bytes.ts'
import type { Output } from '../output.ts'

const BAR = 24
/** Where nobody looks at a bar, a line is enough so often. */
const PLAIN_INTERVAL_MS = 5000
const WORDS = { resolve: 'asking the registry', download: 'downloading', store: 'unpacking', done: 'done' } as const

/** Shows how far a pull is: a bar on a terminal, a line now and then elsewhere, every state as JSON. */
export class PullDisplay implements Disposable {
  readonly #out: Output
  readonly #now: () => number
  readonly #startedAtMs: number
  #shownStage: PullProgress['stage'] | undefined
  #shownAtMs = 0
  #hasBar = false

  /** @param now milliseconds of any clock. */
  constructor(out: Output, now: () => number = () => performance.now()) {
    this.#out = out
    this.#now = now
    this.#startedAtMs = now()
  }

  show(progress: PullProgress): void {
    if (this.#out.isJson) return this.#out.jsonLine(progress)
    if (progress.stage === 'done') return this.#end(progress)
    if (this.#out.isTerminal) return this.#bar(progress)
    const isNew = progress.stage !== this.#shownStage
    if (!isNew && this.#now() - this.#shownAtMs < PLAIN_INTERVAL_MS) return
    this.#shownStage = progress.stage
    this.#shownAtMs = this.#now()
    this.#out.line(`${WORDS[progress.stage]}${bytes(progress, ' ')}`)
  }

  /** Leaves the line of the bar. */
  [Symbol.dispose](): void {
    if (this.#hasBar) this.#out.raw('\n')
    this.#hasBar = false
  }

  #bar(progress: PullProgress): void {
    const { doneBytes, totalBytes } = progress
    const share = totalBytes === null || totalBytes === 0 ? 0 : doneBytes / totalBytes
    const full = progress.stage === 'store' ? BAR : Math.min(BAR, Math.floor(share * BAR))
    const bar = `[${'='.repeat(full)}${' '.repeat(BAR - full)}]`
    const percent = totalBytes === null ? '' : `  ${Math.floor(share * 100)} %`
    const text = `${WORDS[progress.stage].padEnd(19)} ${bar}${bytes(progress, '  ')}${percent}`
    // A line that is wrapped could not be written over.
    const columns = this.#out.size()?.columns ?? 80
    this.#out.raw(`\r${text.slice(0, Math.max(0, columns - 1))}\u001b[K`)
    this.#hasBar = true
  }

  #end({ imageRef, totalBytes, doneBytes }: PullProgress): void {
    if (this.#hasBar) this.#out.raw('\r\u001b[K')
    this.#hasBar = false
    if (imageRef === undefined) return
    const seconds = ((this.#now() - this.#startedAtMs) / 1000).toFixed(1)
    const size = totalBytes ?? doneBytes
    this.#out.line(
      imageRef,
      size === 0 ? ` (nothing to fetch, ${seconds} s)` : ` (${formatBytes(size)} in ${seconds} s)`,
    )
  }
}

function bytes({ doneBytes, totalBytes }: PullProgress, before: string): string {
  if (totalBytes === null) return doneBytes === 0 ? '' : `${before}${formatBytes(doneBytes)}`
  return `${before}${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`
}
