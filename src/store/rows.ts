/** A row of `sandboxes`: columns as they are stored. */
export interface SandboxRow {
  readonly id: string
  readonly name: string
  readonly metadata: string
  readonly checkpoint_hash: string
  readonly state: string
  readonly status: string
  readonly seal: string
}

/** A row of `network_settings`. */
export interface NetworkRow {
  readonly sandbox_id: string
  readonly settings: string
  readonly seal: string
}

/** A row of `containers`. */
export interface ContainerRow {
  readonly id: string
  readonly sandbox_id: string
  readonly name: string
  readonly metadata: string
  readonly state: string
  readonly status: string
  readonly seal: string
}

/** A row of `ledger`. */
export interface LedgerRow {
  readonly owner_id: string
  readonly seq: number
  readonly kind: string
  readonly state: string
  readonly record: string
  readonly boot_id: string
  readonly seal: string
}

/** One change; the changes of one commit happen together or not at all. */
export type Change =
  | { readonly op: 'putSandbox'; readonly row: SandboxRow }
  | { readonly op: 'deleteSandbox'; readonly id: string }
  | { readonly op: 'putContainer'; readonly row: ContainerRow }
  | { readonly op: 'deleteContainer'; readonly id: string }
  | { readonly op: 'putNetwork'; readonly row: NetworkRow }
  | { readonly op: 'putLedger'; readonly row: LedgerRow }
  | { readonly op: 'deleteLedger'; readonly ownerId: string; readonly seq: number }
  | { readonly op: 'putNode'; readonly key: string; readonly value: string }

/** The rows of one sandbox or container, as they are now. */
export interface OwnerRows {
  readonly sandbox: SandboxRow | null
  readonly network: NetworkRow | null
  readonly container: ContainerRow | null
  readonly ledger: readonly LedgerRow[]
}

/** A change of the schema of a database that was there, and where the copy of before is. */
export interface Migrated {
  readonly from: number
  readonly to: number
  readonly copy: string
}

/** All that is stored, read once at start. */
export interface Loaded {
  readonly sandboxes: readonly SandboxRow[]
  readonly networks: readonly NetworkRow[]
  readonly containers: readonly ContainerRow[]
  readonly ledger: readonly LedgerRow[]
  readonly node: Readonly<Record<string, string>>
  /** Why the database was set aside and begun anew, and where it is now; undefined when it was sound. */
  readonly setAside: { readonly reason: string; readonly path: string } | undefined
  /** How its schema was changed when it was opened. */
  readonly migrated?: Migrated
}

/** Under which each daemon that opens a database leaves its version, in `node`. */
export const WRITTEN_BY_KEY = 'written_by'
