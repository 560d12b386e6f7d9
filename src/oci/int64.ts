import { invalidField } from '../core/errors.ts'

const INT64_MAX = 2n ** 63n - 1n
const UINT64_MAX = 2n ** 64n - 1n
/** What the kernel and the runtimes hold in a C `int`; one more wraps around to root in some of them. */
const ID_MAX = 2n ** 31n - 1n

/**
 * The exact value of an int64 field, which arrives as decimal digits.
 *
 * @throws CodedError `InvalidArgument` naming `field` when it is no number or below `min`.
 */
export function int64(field: string, digits: string, min: bigint): bigint {
  return integer(field, digits, min, INT64_MAX)
}

/** Like {@link int64}, for a uint64 field. */
export function uint64(field: string, digits: string): bigint {
  return integer(field, digits, 0n, UINT64_MAX)
}

/** A user or group id: 0 to 2^31-1. @throws CodedError `InvalidArgument` naming `field`. */
export function userOrGroupId(field: string, digits: string): number {
  return Number(integer(field, digits, 0n, ID_MAX))
}

function integer(field: string, digits: string, min: bigint, max: bigint): bigint {
  if (!/^-?[0-9]{1,20}$/.test(digits)) throw invalidField(field, `not a decimal number: ${JSON.stringify(digits)}`)
  const value = BigInt(digits)
  if (value < min || value > max) throw invalidField(field, `${value} is not between ${min} and ${max}`)
  return value
}
