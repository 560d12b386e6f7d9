import { errorMessage } from '../../core/errors.ts'
import type { Outcome } from '../types.ts'

/** How a protocol version tells the end: `json` is a metav1.Status (v4 and later), `text` an error's message or nothing. */
export type StatusFormat = 'json' | 'text'

/** Of a message, in characters. */
const MAX_MESSAGE = 8192

/** What goes to the client on the error stream; empty where the format has no words for it. */
export function encodeStatus(format: StatusFormat, outcome: Outcome): Buffer {
  const status = toStatus(outcome)
  if (format === 'json') return Buffer.from(JSON.stringify({ metadata: {}, ...status }))
  return Buffer.from(status.message ?? '')
}

interface Status {
  readonly status: 'Success' | 'Failure'
  readonly message?: string
  readonly reason?: 'NonZeroExitCode' | 'InternalError'
  readonly details?: { readonly causes: readonly { readonly reason: 'ExitCode'; readonly message: string }[] }
  readonly code?: number
}

/** As the kubelet's streaming library says it: clients read the reason, and the exit code out of the causes. */
function toStatus(outcome: Outcome): Status {
  if ('error' in outcome) {
    const message = `Internal error occurred: ${errorMessage(outcome.error)}`.slice(0, MAX_MESSAGE)
    return { status: 'Failure', message, reason: 'InternalError', code: 500 }
  }
  if (outcome.exitCode === 0) return { status: 'Success' }
  const code = String(outcome.exitCode)
  return {
    status: 'Failure',
    message: `command terminated with non-zero exit code: ${code}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: code }] },
  }
}
