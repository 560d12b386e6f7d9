import { type ChangeLog, Durable, type DurableChange, type DurableDeps } from '../lifecycle/durable.ts'
import type { LedgerEntry } from '../store/ledger.ts'
import type { ContainerRow } from '../store/rows.ts'
import { encodeMetadata, encodeStatus } from './status.ts'
import type { ContainerMetadata, ContainerStatus, ContainerView } from './types.ts'

/** A container as it is on record. */
export interface ContainerRecordData {
  readonly metadata: ContainerMetadata
  readonly status: ContainerStatus
  readonly entries: readonly LedgerEntry[]
  /** See {@link ContainerView.quarantined}. */
  readonly quarantined: string
}

export type ContainerChange = Omit<DurableChange<ContainerStatus>, 'also'>

/** One container: what it is, how it is, and what it owns. */
export class Container {
  readonly metadata: ContainerMetadata
  readonly #deps: DurableDeps
  readonly #durable: Durable<ContainerStatus>
  #quarantined: string

  constructor(record: ContainerRecordData, deps: DurableDeps) {
    this.metadata = record.metadata
    this.#quarantined = record.quarantined
    this.#deps = deps
    const { id, sandboxId, name } = record.metadata
    const identity = { id, sandbox_id: sandboxId, name, metadata: encodeMetadata(record.metadata) }
    this.#durable = new Durable(
      record,
      {
        put: (status) => {
          const row = { ...identity, state: status.state, status: encodeStatus(status) }
          return { op: 'putContainer', row: { ...row, seal: deps.sealer.seal(...containerParts(row)) } }
        },
        remove: { op: 'deleteContainer', id },
        changed: (from, to, log) => this.#logChange(from, to, log),
      },
      deps,
    )
    if (this.#quarantined !== '') this.#logQuarantine()
  }

  get id(): string {
    return this.metadata.id
  }

  get status(): ContainerStatus {
    return this.#durable.status
  }

  get quarantined(): string {
    return this.#quarantined
  }

  /** What it owns, in the order in which it was acquired. */
  get entries(): readonly LedgerEntry[] {
    return this.#durable.entries
  }

  get view(): ContainerView {
    return { metadata: this.metadata, status: this.status, quarantined: this.#quarantined }
  }

  /** Stops trusting what is known of it. It stays releasable, and the reason is shown. The first reason is kept. */
  quarantine(reason: string): void {
    if (this.#quarantined !== '' || reason === '') return
    this.#quarantined = reason
    this.#logQuarantine()
  }

  /** See {@link Durable.insert}. */
  async insert(): Promise<void> {
    // The creation times of containers only ever grow, also over a restart.
    const value = this.metadata.createdAtNs.toString()
    await this.#durable.insert([{ op: 'putNode', key: LAST_CREATED_KEY, value }])
  }

  /** See {@link Durable.save}. */
  async save(change: ContainerChange): Promise<void> {
    await this.#durable.save(change)
  }

  /** See {@link Durable.note}. */
  async note(change: ContainerChange): Promise<void> {
    await this.#durable.note(change)
  }

  /** Writes everything that is known of it anew, and trusts it from then on. */
  async rewrite(): Promise<void> {
    await this.save({ status: (current) => ({ ...current }), put: this.entries })
    this.#quarantined = ''
  }

  /** See {@link Durable.delete}. */
  async delete(): Promise<void> {
    await this.#durable.delete()
    this.#logState({ from: this.status.state, to: 'REMOVED', why: this.status.message || 'all of it is released' })
  }

  #logChange(from: ContainerStatus, to: ContainerStatus, log: ChangeLog): void {
    if (from.state === to.state) return
    const { exit, oomKilled } = to
    const end = exit && exit !== from.exit ? { exitCode: exit.code, reason: exit.reason, oomKilled } : {}
    this.#logState({ from: from.state, to: to.state, ...end, ...log })
  }

  #logState(fields: ChangeLog): void {
    const { name, sandboxId } = this.metadata
    this.#deps.logger.info({ containerId: this.id, sandboxId, name, ...fields }, 'container state')
  }

  #logQuarantine(): void {
    const { name, sandboxId } = this.metadata
    const log = { containerId: this.id, sandboxId, name, reason: this.#quarantined }
    this.#deps.logger.error(log, 'container quarantined')
  }
}

/** Under which the node remembers when its newest container was created. */
export const LAST_CREATED_KEY = 'last_container_created_at_ns'

/** What the seal of a row of `containers` covers. */
export function containerParts(row: Omit<ContainerRow, 'seal'>): string[] {
  return ['container', row.id, row.sandbox_id, row.name, row.metadata, row.state, row.status]
}
