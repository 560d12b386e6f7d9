import { sandboxIps } from '../cni/result.ts'
import { canonicalJson } from '../core/canonical-json.ts'
import { type ChangeLog, Durable, type DurableChange, type DurableDeps } from '../lifecycle/durable.ts'
import type { LedgerEntry } from '../store/ledger.ts'
import type { NetworkRow, SandboxRow } from '../store/rows.ts'
import { waitFor } from '../core/deadline.ts'
import { CodedError } from '../core/errors.ts'
import type { ExitStatus } from '../executor/types.ts'
import { encodeMetadata, encodeStatus, type NetworkSetting, type SandboxStatus } from './status.ts'
import type { SandboxMetadata, SandboxView } from './types.ts'

export interface SandboxRecord {
  readonly metadata: SandboxMetadata
  readonly checkpointHash: string
  readonly status: SandboxStatus
  readonly networks: readonly NetworkSetting[]
  readonly entries: readonly LedgerEntry[]
  /** See {@link SandboxView.quarantined}. */
  readonly quarantined: string
}

/** What one {@link Sandbox.save} changes. */
export interface SandboxChange extends Omit<DurableChange<SandboxStatus>, 'also'> {
  readonly networks?: readonly NetworkSetting[]
}

/** One sandbox: what it is, how it is, and what it owns. */
export class Sandbox {
  readonly metadata: SandboxMetadata
  readonly #deps: DurableDeps
  readonly #durable: Durable<SandboxStatus>
  #checkpointHash: string
  #quarantined: string
  #networks: readonly NetworkSetting[]
  readonly #waiting = new Set<(exit: ExitStatus | null) => void>()

  constructor(record: SandboxRecord, deps: DurableDeps) {
    this.metadata = record.metadata
    this.#checkpointHash = record.checkpointHash
    this.#networks = record.networks
    this.#quarantined = record.quarantined
    this.#deps = deps
    // What never changes is encoded once.
    const identity = {
      id: this.id,
      name: this.metadata.name,
      metadata: encodeMetadata(this.metadata),
    }
    this.#durable = new Durable(
      record,
      {
        put: (status) => {
          const row = {
            ...identity,
            checkpoint_hash: this.#checkpointHash,
            state: status.state,
            status: encodeStatus(status),
          }
          return { op: 'putSandbox', row: { ...row, seal: deps.sealer.seal(...sandboxParts(row)) } }
        },
        remove: { op: 'deleteSandbox', id: this.id },
        changed: (from, to, log) => this.#logChange(from, to, log),
      },
      deps,
    )
    if (this.#quarantined !== '') this.#logQuarantine()
  }

  get id(): string {
    return this.metadata.id
  }

  /** By which its checkpoint is known. */
  get checkpointHash(): string {
    return this.#checkpointHash
  }

  get status(): SandboxStatus {
    return this.#durable.status
  }

  get networks(): readonly NetworkSetting[] {
    return this.#networks
  }

  get quarantined(): string {
    return this.#quarantined
  }

  /** What it owns, in the order in which it was acquired. */
  get entries(): readonly LedgerEntry[] {
    return this.#durable.entries
  }

  get view(): SandboxView {
    return {
      metadata: this.metadata,
      state: this.status.state,
      quarantined: this.#quarantined,
      ips:
        this.metadata.netMode === 'host'
          ? []
          : this.#networks.flatMap(({ result, ifName }) => sandboxIps(result, ifName)),
    }
  }

  /** Stops trusting what is known of it. It stays releasable, and the reason is shown. The first reason is kept. */
  quarantine(reason: string): void {
    if (this.#quarantined !== '' || reason === '') return
    this.#quarantined = reason
    this.#logQuarantine()
  }

  /** See {@link Durable.insert}. */
  async insert(): Promise<void> {
    // The creation times of sandboxes only ever grow, also over a restart.
    const value = this.metadata.createdAtNs.toString()
    const networks =
      this.#networks.length > 0 ? [{ op: 'putNetwork', row: this.#networkRow(this.#networks) } as const] : []
    await this.#durable.insert([{ op: 'putNode', key: 'last_created_at_ns', value }, ...networks])
  }

  /** See {@link Durable.save}. */
  async save(change: SandboxChange): Promise<void> {
    await this.#durable.save(this.#toDurable(change))
    this.#networks = change.networks ?? this.#networks
    this.#tellEnd()
  }

  /** See {@link Durable.note}. */
  async note(change: SandboxChange): Promise<void> {
    await this.#durable.note(this.#toDurable(change))
    this.#networks = change.networks ?? this.#networks
    this.#tellEnd()
  }

  /**
   * Writes everything that is known of it anew, and trusts it from then on: what was not to be trusted has been replaced by
   * what is.
   * @param checkpointHash that of the checkpoint that is on disk.
   */
  async rewrite(checkpointHash: string): Promise<void> {
    const before = this.#checkpointHash
    this.#checkpointHash = checkpointHash
    try {
      const { networks, entries: put } = this
      await this.save({ status: (current) => ({ ...current }), put, ...(networks.length > 0 ? { networks } : {}) })
    } catch (error) {
      this.#checkpointHash = before
      throw error
    }
    this.#quarantined = ''
  }

  /** See {@link Durable.delete}. */
  async delete(): Promise<void> {
    await this.#durable.delete()
    this.#logState('info', {
      from: this.status.state,
      to: 'REMOVED',
      why: this.status.failure || 'all of it is released',
    })
    this.#tell(this.status.exit)
  }

  /**
   * Resolves when its end is on record; nothing of a caller whose signal aborts is kept.
   * @throws CodedError `NotFound` when it goes away without one.
   */
  async ended(signal: AbortSignal): Promise<ExitStatus> {
    if (this.status.exit) return this.status.exit
    let tell: ((exit: ExitStatus | null) => void) | undefined
    const told = new Promise<ExitStatus | null>((resolve) => {
      tell = resolve
      this.#waiting.add(resolve)
    })
    try {
      const exit = await waitFor(told, signal)
      if (exit) return exit
      throw new CodedError('NotFound', `wait for sandbox ${this.id}: it was removed before it ran`)
    } finally {
      if (tell) this.#waiting.delete(tell)
    }
  }

  #logChange(from: SandboxStatus, to: SandboxStatus, log: ChangeLog): void {
    if (from.state === to.state) return
    const exit = to.exit && to.exit !== from.exit ? { exitCode: to.exit.code, reason: to.exit.reason } : {}
    const isUnclear = to.state === 'PENDING' || to.state === 'UNKNOWN'
    this.#logState(isUnclear ? 'warn' : 'info', { from: from.state, to: to.state, ...exit, ...log })
  }

  #logState(level: 'info' | 'warn', fields: ChangeLog): void {
    this.#deps.logger[level]({ sandboxId: this.id, name: this.metadata.name, ...fields }, 'sandbox state')
  }

  #logQuarantine(): void {
    const { name } = this.metadata
    this.#deps.logger.error({ sandboxId: this.id, name, reason: this.#quarantined }, 'sandbox quarantined')
  }

  #tellEnd(): void {
    if (this.status.exit) this.#tell(this.status.exit)
  }

  #tell(exit: ExitStatus | null): void {
    for (const tell of this.#waiting) tell(exit)
    this.#waiting.clear()
  }

  #toDurable({ networks, ...change }: SandboxChange): DurableChange<SandboxStatus> {
    return networks ? { ...change, also: [{ op: 'putNetwork', row: this.#networkRow(networks) }] } : change
  }

  #networkRow(networks: readonly NetworkSetting[]): NetworkRow {
    const row = { sandbox_id: this.id, settings: canonicalJson(networks) }
    return { ...row, seal: this.#deps.sealer.seal(...networkParts(row)) }
  }
}

/** What the seal of a row of `sandboxes` covers. */
export function sandboxParts(row: Omit<SandboxRow, 'seal'>): string[] {
  return ['sandbox', row.id, row.name, row.metadata, row.checkpoint_hash, row.state, row.status]
}

/** What the seal of a row of `network_settings` covers. */
export function networkParts(row: Omit<NetworkRow, 'seal'>): string[] {
  return ['network', row.sandbox_id, row.settings]
}
