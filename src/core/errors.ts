/** The gRPC status names that our errors carry; `grpc/status.ts` is the only place that maps them to numbers. */
export type ErrorCode =
  | 'InvalidArgument'
  | 'NotFound'
  | 'AlreadyExists'
  | 'FailedPrecondition'
  | 'ResourceExhausted'
  | 'PermissionDenied'
  | 'Unavailable'
  | 'Unimplemented'
  | 'Aborted'
  | 'DeadlineExceeded'
  | 'Canceled'
  | 'DataLoss'
  | 'Internal'

/**
 * An error that knows what kind of failure it is.
 * The message says what was tried, on what, and why it failed, in lower case and on one line.
 */
export class CodedError extends Error {
  override readonly name: string = 'CodedError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}

/** A request field that cannot be accepted. `field` is its path in the request message, e.g. `config.metadata.name`. */
export function invalidField(field: string, why: string): CodedError {
  return new CodedError('InvalidArgument', `${field}: ${why}`)
}

/** The message of anything that was thrown, with the messages of its causes that it does not already repeat. */
export function errorMessage(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.cause === undefined) return error.message
  const cause = errorMessage(error.cause)
  return error.message.includes(cause) ? error.message : `${error.message}: ${cause}`
}

/** The errno name (`ENOENT`, …) of a failed system call, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  // Node.js has a number in `errno`; our own calls have the name there, and in `code` the answer's.
  if ('errno' in error && typeof error.errno === 'string') return error.errno
  return typeof error.code === 'string' ? error.code : undefined
}

/** The code of anything that was thrown: that of one of ours, `ResourceExhausted` for a full disk, else `Internal`. */
export function errorCode(error: unknown): ErrorCode {
  if (error instanceof CodedError) return error.code
  // A full disk is nobody's mistake in the program.
  return ['ENOSPC', 'EDQUOT'].includes(errnoOf(error) ?? '') ? 'ResourceExhausted' : 'Internal'
}
