import { invalidField } from '../core/errors.ts'

// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/
const SHOWN_CHARS = 80

/** A value as an error shows it: quoted, escaped, cut. */
export function shown(value: unknown): string {
  const text = typeof value === 'string' ? value.slice(0, SHOWN_CHARS) : value
  return JSON.stringify(text)
}

/** @throws CodedError `InvalidArgument` for control characters (line ends among them) or more than `maxBytes`. */
export function checkText(field: string, value: string, maxBytes: number): void {
  if (Buffer.byteLength(value) > maxBytes) throw invalidField(field, `longer than ${maxBytes} bytes`)
  if (CONTROL.test(value)) throw invalidField(field, `contains a control character: ${shown(value)}`)
}

/** Like {@link checkText}, for a word: neither empty nor with white space. */
export function checkWord(field: string, value: string, maxBytes: number): void {
  checkText(field, value, maxBytes)
  if (value === '') throw invalidField(field, 'must not be empty')
  if (/\s/.test(value)) throw invalidField(field, `contains white space: ${shown(value)}`)
}

/** A word that can be a part of a path without leading elsewhere. */
export function checkPathSafe(field: string, value: string, maxBytes: number): void {
  checkWord(field, value, maxBytes)
  if (value.includes('/')) throw invalidField(field, `must not contain "/": ${shown(value)}`)
  if (value === '.' || value.includes('..')) throw invalidField(field, `must not contain "..": ${shown(value)}`)
}

/** An absolute path that does not climb. `''` has to be allowed by the caller. */
export function checkAbsolutePath(field: string, value: string): void {
  checkText(field, value, 4096)
  if (!value.startsWith('/')) throw invalidField(field, `must be an absolute path: ${shown(value)}`)
  if (value.split('/').includes('..')) throw invalidField(field, `must not contain "..": ${shown(value)}`)
}

/**
 * An enum value that the API knows. One that it does not know arrives as a number, whatever the type says.
 *
 * @throws CodedError `InvalidArgument` naming the known ones.
 */
export function checkEnum(field: string, value: string | number, known: Readonly<Record<string, string>>): void {
  if (typeof value === 'string' && Object.hasOwn(known, value)) return
  throw invalidField(field, `${shown(value)} is none of ${Object.keys(known).join(', ')}`)
}
