/** Whether pods can get a network, in the terms of the CRI's NetworkReady condition. */
export interface NetworkStatus {
  readonly ready: boolean
  /** `NetworkPluginNotReady`, or `''` when ready. */
  readonly reason: string
  readonly message: string
}

export const networkReady: NetworkStatus = { ready: true, reason: '', message: '' }

export function networkNotReady(message: string): NetworkStatus {
  return { ready: false, reason: 'NetworkPluginNotReady', message }
}

/**
 * Remembers how a network's plugins answered STATUS. Once they have been ready, a failure counts only when it has lasted
 * for `graceMs`: a plugin that restarts must not make the node NotReady. Plugins that never were ready get no grace.
 */
export class PluginReadiness {
  readonly #graceMs: number
  readonly #nowMs: () => number
  #wasReady = false
  #failure: { readonly why: string; readonly sinceMs: number } | undefined

  constructor(options: { graceMs: number }, deps: { nowMs: () => number }) {
    this.#graceMs = options.graceMs
    this.#nowMs = deps.nowMs
  }

  succeeded(): void {
    this.#wasReady = true
    this.#failure = undefined
  }

  failed(why: string): void {
    this.#failure = { why, sinceMs: this.#failure?.sinceMs ?? this.#nowMs() }
  }

  /** Forgets everything: there is no network any more. */
  reset(): void {
    this.#wasReady = false
    this.#failure = undefined
  }

  get status(): NetworkStatus {
    if (!this.#wasReady) return networkNotReady(this.#failure?.why ?? 'the CNI plugins have not answered STATUS yet')
    if (!this.#failure || this.#nowMs() - this.#failure.sinceMs < this.#graceMs) return networkReady
    return networkNotReady(this.#failure.why)
  }
}
