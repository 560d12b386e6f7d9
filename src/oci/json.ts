import { CodedError } from '../core/errors.ts'

/**
 * The text of a runtime spec, of a part of one, or of what holds some, in which every bigint is an exact JSON number.
 *
 * @throws CodedError `Internal` for a value that JSON has no form for: it would otherwise turn into `null` silently.
 */
export function ociJson(spec: object): string {
  return jsonText(spec, 'spec')
}

function jsonText(value: unknown, path: string): string {
  if (typeof value === 'string' || typeof value === 'boolean') return JSON.stringify(value)
  if (typeof value === 'bigint' || Number.isSafeInteger(value)) return String(value)
  if (Array.isArray(value)) return `[${value.map((item, at) => jsonText(item, `${path}[${at}]`)).join(',')}]`
  if (typeof value === 'object' && value !== null) return objectText(value, path)
  throw new CodedError('Internal', `write a runtime spec: ${path}: ${String(value)} has no exact form in JSON`)
}

function objectText(value: object, path: string): string {
  const members: string[] = []
  for (const [key, member] of Object.entries(value) as [string, unknown][]) {
    if (member !== undefined) members.push(`${JSON.stringify(key)}:${jsonText(member, `${path}.${key}`)}`)
  }
  return `{${members.join(',')}}`
}

/** Numbers that may be beyond 2^53, and strings, in which such digits are none. */
const LONG_NUMBERS = /"(?:[^"\\]|\\.)*"|(?<![\d.])-?\d{16,}(?![\d.eE])/g
/** No text of a runtime spec has this character: neither arguments nor paths can. */
const BIGINT_MARK = '\u0000'

/** The opposite of {@link ociJson}: integers that a number cannot hold exactly become bigints. */
export function parseOciJson(text: string): unknown {
  const marked = text.replace(LONG_NUMBERS, (token) => (token.startsWith('"') ? token : `"\\u0000${token}"`))
  return JSON.parse(marked, (_key, value: unknown) =>
    typeof value === 'string' && value.startsWith(BIGINT_MARK) ? BigInt(value.slice(1)) : value,
  ) as unknown
}
