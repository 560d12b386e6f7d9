import { setMaxListeners } from 'node:events'
import { deadline, waitFor } from '../../core/deadline.ts'
import { errorMessage } from '../../core/errors.ts'
import { redactedJson, redactedText } from './redact.ts'
import type { TarFile } from './tar.ts'

/** One file of a bundle. */
export interface Part {
  /** Its name: `.json` for a value, anything else for a text. */
  readonly name: string
  /** What it holds, secrets and all: they are taken out afterwards. */
  readonly collect: (signal: AbortSignal) => Promise<unknown>
}

export interface CollectLimits {
  /** Of one part. */
  readonly timeoutMs: number
  /** Of one part; of a text that is longer the end is kept, of a value a note. */
  readonly maxBytes: number
}

/** What became of a part. */
export interface PartReport {
  readonly name: string
  readonly sizeBytes: number
  readonly durationMs: number
  /** Why it is not there, or not whole. */
  readonly problem: string | null
}

/** All parts at the same time, each within its limits. One that fails leaves a note of why in its place. */
export async function collectParts(
  parts: readonly Part[],
  limits: CollectLimits,
  signal: AbortSignal,
): Promise<{ readonly files: TarFile[]; readonly reports: PartReport[] }> {
  // Each part ties itself to it.
  setMaxListeners(parts.length + 10, signal)
  const results = await Promise.all(parts.map((part) => collectPart(part, limits, signal)))
  signal.throwIfAborted()
  return { files: results.map(({ file }) => file), reports: results.map(({ report }) => report) }
}

async function collectPart(
  { name, collect }: Part,
  limits: CollectLimits,
  signal: AbortSignal,
): Promise<{ file: TarFile; report: PartReport }> {
  const startedAtMs = performance.now()
  let text: string
  let problem: string | null = null
  try {
    using limit = deadline(`collect ${name}`, limits.timeoutMs, signal)
    // Whatever does not listen to the signal is left behind.
    text = textOf(await waitFor(collect(limit.signal), limit.signal), name.endsWith('.json'))
    const size = Buffer.byteLength(text)
    if (size > limits.maxBytes) {
      problem = `it has ${size} bytes: only ${name.endsWith('.json') ? 'the first' : 'the last'} ${limits.maxBytes} are here`
      text = name.endsWith('.json') ? text.slice(0, limits.maxBytes) : text.slice(-limits.maxBytes)
    }
  } catch (error) {
    problem = redactedText(errorMessage(error)).split('\n', 1)[0] ?? ''
    text = name.endsWith('.json') ? JSON.stringify({ problem }) : `could not be collected: ${problem}`
  }
  const content = Buffer.from(`${text.trimEnd()}\n`)
  const durationMs = Math.round(performance.now() - startedAtMs)
  return { file: { path: name, content }, report: { name, sizeBytes: content.length, durationMs, problem } }
}

function textOf(value: unknown, isJson: boolean): string {
  if (isJson) return JSON.stringify(redactedJson(value), undefined, 2) ?? 'null'
  return redactedText(typeof value === 'string' ? value : String(value))
}
