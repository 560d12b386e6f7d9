import { REDACTED, redactText } from '../../core/redact-text.ts'

const SECRET_WORDS =
  'passw(?:or)?d|passphrase|passwd|secret|token|credential|cookie|api[_-]?key|access[_-]?key|private[_-]?key|auth(?!or\\b|ority|ors\\b)'
/** A name whose value is nobody's business. */
const SECRET_NAME = new RegExp(`${SECRET_WORDS}|^envs?$|environment|last-applied-configuration`, 'i')
// Nothing here is repeated without a bound: a text of megabytes without a blank would take hours.
/** `NAME=value`, `"name": "value"` (also within a string of JSON), `--name value`. */
const ASSIGNED = new RegExp(
  `((?:${SECRET_WORDS})[\\w.-]{0,64}(?:\\\\{0,8}["'])?(?:\\s{0,8}[=:]\\s{0,8}|(?=\\s)(?<=--[\\w-]{0,64})\\s{1,8}))` +
    `(\\\\+".*?\\\\+"|"(?:[^"\\\\]|\\\\.)*"|'[^']*'|[^\\s,;}\\]"']+)`,
  'gi',
)
const TOKENS = /\beyJ[\w-]{8,2000}\.[\w-]{1,10000}(?:\.[\w-]*)?/g
const PEM = /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g
/** Long, and of more than one kind of characters. */
const LOOKS_RANDOM = /^(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9+/=_-]{20,}$/
/** Annotations whose values may look random and are known. */
const KNOWN_ANNOTATION = /^(?:[\w.-]*\.)?(?:kubernetes\.io|k8s\.io|sandboxerd)\/(?!last-applied)/

/** A text without what looks like a secret: what is assigned to such a name, in a URL, a token, a private key. */
export function redactedText(text: string): string {
  const bare = redactText(text.replaceAll(PEM, REDACTED)).replaceAll(TOKENS, REDACTED)
  return bare.replaceAll(ASSIGNED, (_match, name: string) => `${name}${REDACTED}`)
}

/**
 * JSON without what looks like a secret: values under such names, wherever they stand; environments as a whole;
 * annotations that look random; and what {@link redactedText} finds in texts.
 */
export function redactedJson(value: unknown): unknown {
  if (typeof value === 'string') return redactedText(value)
  if (Array.isArray(value)) return value.map(redactedJson)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value)
  const { name, key = name } = value as { readonly name?: unknown; readonly key?: unknown }
  const isPair = typeof key === 'string' && SECRET_NAME.test(key)
  return Object.fromEntries(
    entries.map(([field, member]) => {
      if (isSecret(field, member) || (isPair && field === 'value')) return [field, REDACTED]
      if (/^annotations$/i.test(field)) return [field, redactedAnnotations(member)]
      return [field, redactedJson(member)]
    }),
  )
}

/** Numbers and the like are no secrets: a counter may be called `tokens`. */
function isSecret(field: string, value: unknown): boolean {
  const canHold = (typeof value === 'string' && value !== '') || (typeof value === 'object' && value !== null)
  return canHold && SECRET_NAME.test(field)
}

function redactedAnnotations(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return redactedJson(value)
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => {
      const looksSecret = typeof member === 'string' && LOOKS_RANDOM.test(member) && !KNOWN_ANNOTATION.test(name)
      return [name, looksSecret || isSecret(name, member) ? REDACTED : redactedJson(member)]
    }),
  )
}
