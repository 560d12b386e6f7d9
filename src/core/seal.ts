import { createHash, createHmac, timingSafeEqual } from 'node:crypto'

/**
 * Makes tampering evident: an HMAC-SHA-256 under a key that only root can read.
 * A hash alone would only tell of accidents, since whoever changes a text can also change its hash.
 */
export class Sealer {
  readonly #key: Buffer

  /** @param key at least 32 bytes. */
  constructor(key: Buffer) {
    this.#key = key
  }

  /** 64 hex characters. The parts are bound to their places: moving text from one to another changes the seal. */
  seal(...parts: readonly string[]): string {
    const hmac = createHmac('sha256', this.#key)
    for (const part of parts) hmac.update(`${Buffer.byteLength(part)}:`).update(part)
    return hmac.digest('hex')
  }

  isSealed(seal: string, ...parts: readonly string[]): boolean {
    const expected = Buffer.from(this.seal(...parts))
    const given = Buffer.from(seal)
    return expected.length === given.length && timingSafeEqual(expected, given)
  }
}

/** SHA-256 of a text, as 64 hex characters. */
export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
