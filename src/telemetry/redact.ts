import { REDACTED, redactText } from '../core/redact-text.ts'

/** Fields whose values are never written, wherever they stand. */
export const SECRET_FIELDS: ReadonlySet<string> = new Set([
  'password',
  'auth',
  'authorization',
  'identity_token',
  'identityToken',
  'registry_token',
  'registryToken',
  'token',
  'secret',
  'cookie',
  'env',
  'envs',
])

/** Deeper than anything that is logged on purpose; it also ends at an object that holds itself. */
const MAX_DEPTH = 5

/**
 * The value with every secret field replaced by `[redacted]`, and texts by what `redactText` makes of them; the value itself
 * when there is nothing to hide. What lies too deep to be looked at is replaced as well. Only plain objects and arrays are
 * looked into.
 */
export function redact<T>(value: T, depth = 0): T {
  if (typeof value === 'string') return redactText(value) as T & string
  if (!isPlain(value)) return value
  if (depth > MAX_DEPTH) return '[too deep]' as T
  let copy: Record<string, unknown> | undefined
  for (const key of Object.keys(value)) {
    const member = value[key]
    const clean = SECRET_FIELDS.has(key) ? REDACTED : redact(member, depth + 1)
    if (clean === member) continue
    copy ??= (Array.isArray(value) ? [...(value as unknown[])] : { ...value }) as Record<string, unknown>
    copy[key] = clean
  }
  return (copy ?? value) as T
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null || Array.isArray(value)
}
