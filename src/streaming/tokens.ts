import { randomBytes } from 'node:crypto'
import { CodedError } from '../core/errors.ts'
import type { StreamRequest } from './types.ts'

/** How a token looks: 256 bits in base64url. */
export const TOKEN_PATTERN = /^[A-Za-z0-9_-]{43}$/

export interface TokensOptions {
  /** How many may wait for their client at a time. */
  readonly maxPending: number
  readonly lifetimeMs: number
  /** A clock that never goes back; by default the machine's. */
  readonly now?: () => number
}

/** What URLs stand for, until their client comes: each is good for one use, and for a limited time. Needs no timer. */
export class Tokens {
  readonly #options: TokensOptions
  readonly #now: () => number
  /** All live equally long, so the first one is the first to expire. */
  readonly #pending = new Map<string, { readonly request: StreamRequest; readonly expiresAtMs: number }>()

  constructor(options: TokensOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
  }

  /** @throws CodedError `ResourceExhausted` when too many are waiting. */
  add(request: StreamRequest): string {
    const { maxPending, lifetimeMs } = this.#options
    this.#dropExpired()
    if (this.#pending.size >= maxPending) {
      throw new CodedError('ResourceExhausted', `make a streaming URL: ${maxPending} of them wait for their clients`)
    }
    const token = randomBytes(32).toString('base64url')
    this.#pending.set(token, { request, expiresAtMs: this.#now() + lifetimeMs })
    return token
  }

  /** What a token stands for, which it does no more; undefined for one that is unknown, expired, used or of another kind. */
  take(kind: StreamRequest['kind'], token: string): StreamRequest | undefined {
    this.#dropExpired()
    const request = this.#pending.get(token)?.request
    if (request?.kind !== kind) return undefined
    this.#pending.delete(token)
    return request
  }

  #dropExpired(): void {
    const now = this.#now()
    for (const [token, { expiresAtMs }] of this.#pending) {
      if (expiresAtMs > now) return
      this.#pending.delete(token)
    }
  }
}
