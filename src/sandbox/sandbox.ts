import { sandboxIps } from '../cni/result.ts'
import { canonicalJson } from '../core/canonical-json.ts'
import type { Sealer } from '../core/seal.ts'
import { type LedgerEntry, putEntry, strikeEntry } from '../store/ledger.ts'
import type { Change, NetworkRow, SandboxRow } from '../store/rows.ts'
import type { Store } from '../store/store.ts'
import { encodeMetadata, encodeStatus, type NetworkSetting, type SandboxStatus } from './status.ts'
import type { SandboxMetadata, SandboxView } from './types.ts'

export interface SandboxDeps {
  readonly store: Store
  readonly sealer: Sealer
}

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
export interface SandboxChange {
  /** Makes the new status of the current one; returning it as it is changes nothing. */
  readonly status?: (current: SandboxStatus) => SandboxStatus
  readonly networks?: readonly NetworkSetting[]
  /** Ledger entries that are new, or have changed. */
  readonly put?: readonly LedgerEntry[]
  /** Ledger entries whose release is confirmed. */
  readonly strike?: readonly LedgerEntry[]
}

/** One sandbox: what it is, how it is, and what it owns. */
export class Sandbox {
  readonly metadata: SandboxMetadata
  readonly checkpointHash: string
  readonly #deps: SandboxDeps
  #quarantined: string
  #status: SandboxStatus
  #networks: readonly NetworkSetting[]
  #entries: ReadonlyMap<number, LedgerEntry>
  #saving: Promise<unknown> = Promise.resolve()
  #isDeleted = false
  /** What was given back, and could not be written down yet (disk full). */
  #unsaved: readonly Change[] = []

  constructor(record: SandboxRecord, deps: SandboxDeps) {
    this.metadata = record.metadata
    this.checkpointHash = record.checkpointHash
    this.#status = record.status
    this.#networks = record.networks
    this.#entries = new Map(record.entries.map((entry) => [entry.seq, entry]))
    this.#quarantined = record.quarantined
    this.#deps = deps
  }

  get id(): string {
    return this.metadata.id
  }

  get status(): SandboxStatus {
    return this.#status
  }

  get networks(): readonly NetworkSetting[] {
    return this.#networks
  }

  get quarantined(): string {
    return this.#quarantined
  }

  /** What it owns, in the order in which it was acquired. */
  get entries(): readonly LedgerEntry[] {
    return [...this.#entries.values()].sort((a, b) => a.seq - b.seq)
  }

  get view(): SandboxView {
    return {
      metadata: this.metadata,
      state: this.#status.state,
      quarantined: this.#quarantined,
      ips:
        this.metadata.netMode === 'host'
          ? []
          : this.#networks.flatMap(({ result, ifName }) => sandboxIps(result, ifName)),
    }
  }

  /** Stops trusting what is known of it. It stays releasable, and the reason is shown. The first reason is kept. */
  quarantine(reason: string): void {
    this.#quarantined ||= reason
  }

  /** Writes a new sandbox with its intents: the first thing that happens to it, before anything is made. */
  async insert(): Promise<void> {
    const { sealer } = this.#deps
    await this.#deps.store.commit([
      { op: 'putSandbox', row: this.#sandboxRow(this.#status) },
      ...this.entries.map((entry) => putEntry(sealer, entry)),
      // The creation times of sandboxes only ever grow, also over a restart.
      { op: 'putNode', key: 'last_created_at_ns', value: this.metadata.createdAtNs.toString() },
    ])
  }

  /** Makes a change durable, then visible; when that fails, it did not happen. One at a time, in order. */
  async save(change: SandboxChange): Promise<void> {
    return this.#inOrder(() =>
      this.#save(change, (error) => {
        throw error
      }),
    )
  }

  /**
   * Like {@link save}, for a change that has happened outside already (an end, a release): when it cannot be written it
   * holds in memory all the same, and is written with the next one. After a crash it is found out, or done, again.
   */
  async note(change: SandboxChange): Promise<void> {
    return this.#inOrder(() =>
      this.#save(change, (_error, changes) => {
        this.#unsaved = changes
      }),
    )
  }

  /** Removes the sandbox from the database, with its ledger entries: everything it owned has been given back. */
  async delete(): Promise<void> {
    return this.#inOrder(async () => {
      const struck = this.entries.map(strikeEntry)
      await this.#deps.store.commit([...this.#unsaved, ...struck, { op: 'deleteSandbox', id: this.id }])
      this.#entries = new Map()
      this.#isDeleted = true
    })
  }

  async #inOrder(work: () => Promise<void>): Promise<void> {
    const done = this.#saving.then(work)
    this.#saving = done.catch(() => undefined)
    return done
  }

  async #save(change: SandboxChange, onFailure: (error: unknown, changes: readonly Change[]) => void): Promise<void> {
    // An end that is seen only now must not bring its row back.
    if (this.#isDeleted) return
    const status = change.status?.(this.#status) ?? this.#status
    const changes: Change[] = [...this.#unsaved]
    if (status !== this.#status) changes.push({ op: 'putSandbox', row: this.#sandboxRow(status) })
    if (change.networks) changes.push({ op: 'putNetwork', row: this.#networkRow(change.networks) })
    for (const entry of change.put ?? []) changes.push(putEntry(this.#deps.sealer, entry))
    for (const entry of change.strike ?? []) changes.push(strikeEntry(entry))
    try {
      await this.#deps.store.commit(changes)
      this.#unsaved = []
    } catch (error) {
      onFailure(error, changes)
    }
    this.#status = status
    this.#networks = change.networks ?? this.#networks
    const entries = new Map(this.#entries)
    for (const entry of change.put ?? []) entries.set(entry.seq, entry)
    for (const entry of change.strike ?? []) entries.delete(entry.seq)
    this.#entries = entries
  }

  #sandboxRow(status: SandboxStatus): SandboxRow {
    const row = {
      id: this.id,
      name: this.metadata.name,
      metadata: encodeMetadata(this.metadata),
      checkpoint_hash: this.checkpointHash,
      state: status.state,
      status: encodeStatus(status),
    }
    return { ...row, seal: this.#deps.sealer.seal(...sandboxParts(row)) }
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
