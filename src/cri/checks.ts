import { invalidField } from '../core/errors.ts'

// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/
const SHOWN_CHARS = 80
/** Kubernetes allows 256 KiB of annotations; this leaves room and still fits every message and checkpoint. */
const MAX_MAP_BYTES = 1024 * 1024
/** An id of ours has 64; others succeed at Stop and Remove as unknown ones, but must be something to search for. */
const MAX_ID_BYTES = 256

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

/**
 * A part of the name that something has on the node. Looser than Kubernetes, which wants lower case, but without `_`:
 * that separates the parts of such a name, and two things must never get the same.
 */
export function checkNamePart(field: string, value: string, maxBytes: number): void {
  checkPathSafe(field, value, maxBytes)
  if (!/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(value)) {
    throw invalidField(field, `only letters, digits, "-" and "." are allowed, at the ends no sign: ${shown(value)}`)
  }
}

/** @throws CodedError `InvalidArgument` for what is no whole number from 0 to 2^32-1. */
export function checkUint32(field: string, value: number): void {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) throw invalidField(field, `${value} is no uint32`)
}

/** A command line, whose strings may hold anything but what ends them. */
export function checkStrings(field: string, strings: readonly string[]): void {
  for (const [at, text] of strings.entries()) {
    if (text.includes('\0')) throw invalidField(`${field}[${at}]`, 'contains a NUL character')
  }
}

/** The id of a sandbox or a container, or the beginning of one, as the caller gave it. */
export function validateId(field: string, id: string): string {
  if (id === '') throw invalidField(field, 'must not be empty')
  checkText(field, id, MAX_ID_BYTES)
  return id
}

/** @throws CodedError `InvalidArgument` for labels or annotations that could not be given back exactly. */
export function checkMap(field: string, map: Readonly<Record<string, string>>): void {
  let bytes = 0
  for (const [key, value] of Object.entries(map)) {
    checkText(`${field}[${shown(key)}]`, key, MAX_MAP_BYTES)
    // The one key that a plain object cannot hold safely.
    if (key === '__proto__') throw invalidField(`${field}[${shown(key)}]`, 'is not a usable key')
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value)
  }
  if (bytes > MAX_MAP_BYTES) throw invalidField(field, `${bytes} bytes in all are more than ${MAX_MAP_BYTES}`)
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
