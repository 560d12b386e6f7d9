import { type ErrorCode, errorCode, errorMessage } from '../core/errors.ts'
import { redactText } from '../core/redact-text.ts'

/** The gRPC name of each code, and the HTTP status that google.rpc.Code maps it to. */
const CODES: Readonly<Record<ErrorCode, readonly [name: string, status: number]>> = {
  Canceled: ['CANCELLED', 499],
  InvalidArgument: ['INVALID_ARGUMENT', 400],
  DeadlineExceeded: ['DEADLINE_EXCEEDED', 504],
  NotFound: ['NOT_FOUND', 404],
  AlreadyExists: ['ALREADY_EXISTS', 409],
  PermissionDenied: ['PERMISSION_DENIED', 403],
  ResourceExhausted: ['RESOURCE_EXHAUSTED', 429],
  FailedPrecondition: ['FAILED_PRECONDITION', 400],
  Aborted: ['ABORTED', 409],
  Unimplemented: ['UNIMPLEMENTED', 501],
  Internal: ['INTERNAL', 500],
  Unavailable: ['UNAVAILABLE', 503],
  DataLoss: ['DATA_LOSS', 500],
}

/** An error as it is told, wherever it stands in an answer: `NOT_FOUND` for `NotFound`, on one line, without secrets. */
export function refusal(error: unknown): { readonly code: string; readonly message: string } {
  const message = redactText(errorMessage(error)).replaceAll(/\s*[\r\n]+\s*/g, '; ')
  return { code: CODES[errorCode(error)][0], message }
}

export function httpStatus(code: ErrorCode): number {
  return CODES[code][1]
}

/** The code of that gRPC name; `Internal` for one that we do not send. */
export function codeOfName(name: unknown): ErrorCode {
  const found = Object.entries(CODES).find(([, [known]]) => known === name)
  return (found?.[0] as ErrorCode | undefined) ?? 'Internal'
}
