import { CodedError } from '../core/errors.ts'
import type { Resources, Spec } from './spec.ts'

/**
 * The text of a runtime spec, or of the resources for `update`, in which every bigint is an exact JSON number.
 *
 * @throws CodedError `Internal` for a value that JSON has no form for: it would otherwise turn into `null` silently.
 */
export function ociJson(spec: Spec | Resources): string {
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
