import { expect } from 'vitest'

/** `expect.stringContaining` with a type: what it is compared with is not known either. */
export function containing(text: string): unknown {
  return expect.stringContaining(text)
}
