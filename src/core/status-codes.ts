import type { ErrorCode } from './errors.ts'

/** The numbers of gRPC's status codes, which ttrpc uses as well. */
export const STATUS_NUMBERS: Readonly<Record<ErrorCode, number>> = {
  Canceled: 1,
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  AlreadyExists: 6,
  PermissionDenied: 7,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  Aborted: 10,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
  DataLoss: 15,
}

/** OUT_OF_RANGE and UNAUTHENTICATED, which we do not send. */
const OTHERS: readonly (readonly [number, ErrorCode])[] = [
  [11, 'InvalidArgument'],
  [16, 'PermissionDenied'],
]

const CODES: ReadonlyMap<number, ErrorCode> = new Map([
  ...Object.entries(STATUS_NUMBERS).map(([code, number]) => [number, code as ErrorCode] as const),
  ...OTHERS,
])

/** What we call a status code that a peer has sent; `Internal` for UNKNOWN, and for one that there is not. */
export function errorCodeOfStatus(number: number): ErrorCode {
  return CODES.get(number) ?? 'Internal'
}
