import type { status } from '@grpc/grpc-js'
import { errorCode, errorMessage } from '../core/errors.ts'
import { redactText } from '../core/redact-text.ts'
import { STATUS_NUMBERS } from '../core/status-codes.ts'

/** The message travels in an HTTP/2 header, where each character may take nine bytes and clients allow 64 KiB in all. */
const MAX_DETAILS_CHARS = 4096

/** An error in the form that grpc-js sends: a number and a text. */
export interface StatusError extends Error {
  readonly code: status
  readonly details: string
}

/**
 * Turns anything thrown into a gRPC status: its `errorCode`, with the message on one line and without secrets. Never
 * throws, and neither does grpc-js when it encodes the result.
 */
export function toStatus(error: unknown): StatusError {
  const code = STATUS_NUMBERS[errorCode(error)]
  const details = headerText(redactText(errorMessage(error)))
  return Object.assign(new Error(details), { code, details })
}

function headerText(message: string): string {
  const line = message.replaceAll(/\s*[\r\n]+\s*/g, '; ')
  const cut = line.length > MAX_DETAILS_CHARS ? `${line.slice(0, MAX_DETAILS_CHARS - 1)}…` : line
  // Half a surrogate pair makes encodeURI throw inside grpc-js, where nobody catches it.
  return cut.replaceAll(/\p{Surrogate}/gu, '\ufffd')
}
