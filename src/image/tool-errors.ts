import { CodedError, type ErrorCode } from '../core/errors.ts'
import { REDACTED, redactText } from '../core/redact-text.ts'

const MAX_CHARS = 1000
/** Shorter ones would be found in every word. */
const MIN_SECRET_CHARS = 4

/** What the words of the tools mean, the first that fits. They come from the registry, the kernel, or the tool itself. */
const MEANINGS: readonly (readonly [RegExp, ErrorCode])[] = [
  [/no space left on device|disk quota exceeded/i, 'ResourceExhausted'],
  [
    /unauthorized|authentication required|access to the resource is denied|denied:|invalid username\/password|\b40[13]\b/i,
    'PermissionDenied',
  ],
  [/source image rejected|signature/i, 'PermissionDenied'],
  [
    /manifest unknown|name unknown|repository name not known|no image found in manifest list|not found|\b404\b/i,
    'NotFound',
  ],
  [/toomanyrequests|\b429\b/i, 'ResourceExhausted'],
]

/** Why a tool failed, as an error. @param secrets never appear in it. */
export function toolError(what: string, stderr: string, secrets: readonly string[]): CodedError {
  const why = redactSecrets(reasonOf(stderr), secrets)
  const code = MEANINGS.find(([words]) => words.test(why))?.[1] ?? 'Unavailable'
  return new CodedError(code, `${what}: ${why.slice(0, MAX_CHARS)}`)
}

/** The last thing that a tool complained of; skopeo writes `time="…" level=fatal msg="…"`. */
function reasonOf(stderr: string): string {
  const messages = [...stderr.matchAll(/level=(?:fatal|error) msg=("(?:[^"\\]|\\.)*")/g)].map((match) => match[1] ?? '')
  const text = messages.length > 0 ? unquoted(messages.at(-1) ?? '') : stderr
  const line = text.trim().replaceAll(/\s*[\r\n]+\s*/g, '; ')
  return line.replace(/^Error parsing image name "[^"]*": /, '') || 'it failed without a word'
}

function unquoted(text: string): string {
  try {
    return String(JSON.parse(text))
  } catch {
    // Go's quotes know escapes that JSON does not.
    return text.slice(1, -1).replaceAll(/\\(.)/g, '$1')
  }
}

/** What `redactText` leaves of a text, without the secrets in any spelling. */
export function redactSecrets(text: string, secrets: readonly string[]): string {
  let clean = redactText(text)
  for (const secret of [...secrets].toSorted((a, b) => b.length - a.length)) {
    if (secret.length < MIN_SECRET_CHARS) continue
    clean = clean.replaceAll(secret, REDACTED).replaceAll(encodeURIComponent(secret), REDACTED)
  }
  return clean
}
