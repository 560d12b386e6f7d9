/** What is written in the place of a secret. */
export const REDACTED = '[redacted]'

/** Whether there can be anything in a text that {@link redactText} looks for: most texts are done with this. */
const SUSPICIOUS = /[@?]|bearer|basic/i
/** Where the address ends, read backwards, that an @ belongs to. */
const BEFORE_ADDRESS = /[\s"'`<>=(,[]/
/** Longer than any user and password. */
const MAX_USER_CHARS = 2048

/**
 * A text without what addresses and headers carry of secrets: the user and the query of a URL or of what could be one (an
 * image reference is one without its scheme), and the rest of an authorization header. Everything that leaves the daemon in
 * a log or as an error goes through this. It takes time in proportion to the text, whatever that is.
 */
export function redactText(text: string): string {
  if (!SUSPICIOUS.test(text)) return text
  return withoutUsers(text)
    .replaceAll(/(?<=\S)\?[^\s"'<>]+/g, `?${REDACTED}`)
    .replaceAll(/\b(bearer|basic) +[A-Za-z0-9+/=._~-]{8,}/gi, `$1 ${REDACTED}`)
}

function withoutUsers(text: string): string {
  const pieces = text.split('@')
  let clean = ''
  let wasCut = false
  for (const [at, piece] of pieces.entries()) {
    const next = pieces[at + 1]
    if (next === undefined) return clean + piece
    // A digest stands behind an @, too.
    const user: number = /^sha\d+:/.test(next) ? -1 : userStart(piece, wasCut)
    wasCut = user !== -1
    clean += wasCut ? piece.slice(0, user) : `${piece}@`
  }
  return clean
}

/** Where the user of an address begins in the text before an @; -1 when there is none. */
function userStart(piece: string, continues: boolean): number {
  const end = Math.max(0, piece.length - MAX_USER_CHARS)
  let hasPassword = false
  for (let at = piece.length; at > end; at--) {
    const character = piece[at - 1] ?? ''
    if (character === '/') return piece.slice(at - 3, at) === '://' ? at : -1
    if (BEFORE_ADDRESS.test(character)) return hasPassword ? at : -1
    if (character === ':') hasPassword = true
  }
  return hasPassword || continues ? end : -1
}
