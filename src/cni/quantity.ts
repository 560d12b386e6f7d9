import { CodedError } from '../core/errors.ts'

const decimalExponents: Readonly<Record<string, number>> = {
  n: -9,
  u: -6,
  m: -3,
  '': 0,
  k: 3,
  M: 6,
  G: 9,
  T: 12,
  P: 15,
  E: 18,
}

const binaryExponents: Readonly<Record<string, number>> = { Ki: 10, Mi: 20, Gi: 30, Ti: 40, Pi: 50, Ei: 60 }

/**
 * The value of a Kubernetes quantity (`10M`, `1.5Gi`, `2e6`, `500m`), exactly, rounded up to a whole number
 * as `resource.Quantity.Value()` does.
 *
 * @throws CodedError `InvalidArgument` when the text is none.
 */
export function parseQuantity(text: string): bigint {
  const match = /^([+-]?)(\d{0,32})(?:\.(\d{0,32}))?(?:([KMGTPE]i)|([numkMGTPE]?)|[eE]([+-]?\d{1,3}))$/.exec(text)
  const [, sign, whole = '', fraction = '', binary, decimal = '', exponent] = match ?? []
  if (!match || whole + fraction === '')
    throw new CodedError('InvalidArgument', `${JSON.stringify(text)} is no quantity`)

  const power = (exponent === undefined ? (decimalExponents[decimal] ?? 0) : Number(exponent)) - fraction.length
  let numerator = BigInt(whole + fraction)
  if (binary !== undefined) numerator <<= BigInt(binaryExponents[binary] ?? 0)
  if (power >= 0) numerator *= 10n ** BigInt(power)
  const denominator = power < 0 ? 10n ** BigInt(-power) : 1n
  const exact = numerator % denominator === 0n
  const floor = numerator / denominator
  // Up is towards zero for negative values.
  return sign === '-' ? -floor : floor + (exact ? 0n : 1n)
}
