import type { PodUsage } from '../admin/api.ts'

/** What a pod uses, with what goes through its network now. */
export interface PodRates extends PodUsage {
  /** Null before there are two readings, and for pods on the node's network. */
  readonly rxBytesPerSecond: number | null
  readonly txBytesPerSecond: number | null
}

/** Makes rates of counters: each is that between this reading and the one before. */
export class UsageRates {
  #before = new Map<string, PodRates>()

  of(usages: readonly PodUsage[]): readonly PodRates[] {
    const now = usages.map((usage) => this.#rates(usage))
    this.#before = new Map(now.map((rates) => [rates.id, rates]))
    return now
  }

  #rates(usage: PodUsage): PodRates {
    const before = this.#before.get(usage.id)
    const unknown = { ...usage, rxBytesPerSecond: null, txBytesPerSecond: null }
    if (!usage.network || !before?.network) return unknown
    const seconds = (Date.parse(usage.network.at) - Date.parse(before.network.at)) / 1000
    // The same reading as before: so is the rate.
    if (seconds <= 0) return { ...before, ...usage }
    const rate = (key: 'rxBytes' | 'txBytes'): number =>
      Math.max(0, ((usage.network?.[key] ?? 0) - (before.network?.[key] ?? 0)) / seconds)
    return { ...usage, rxBytesPerSecond: rate('rxBytes'), txBytesPerSecond: rate('txBytes') }
  }
}
