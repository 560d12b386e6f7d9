import { existsSync, readFileSync } from 'node:fs'
import { openCheckpoint } from '../checkpoint/checkpoint.ts'
import { errnoOf, errorMessage } from '../core/errors.ts'
import type { Sealer } from '../core/seal.ts'
import { type OtherSource, ownedEntries, ownerIds } from '../lifecycle/records.ts'
import { type LedgerEntry, splitLedger } from '../store/ledger.ts'
import type { LedgerRow, Loaded, NetworkRow, SandboxRow } from '../store/rows.ts'
import { type SandboxRoots, sandboxesDir, sandboxPaths } from './paths.ts'
import { networkParts, type SandboxRecord, sandboxParts } from './sandbox.ts'
import {
  type CheckpointData,
  decodeMetadata,
  decodeStatus,
  type NetworkSetting,
  networkSubject,
  type SandboxStatus,
} from './status.ts'
import type { SandboxMetadata, SandboxState } from './types.ts'

/** A sandbox as it is on record. */
export interface LoadedSandbox {
  readonly record: SandboxRecord
  /** Whether the database has a row of it; otherwise it was found by its checkpoint, or only by its directory. */
  readonly hasRow: boolean
}

export interface LoadOptions {
  readonly roots: SandboxRoots
  readonly bootId: string
}

export interface LoadDeps {
  readonly sealer: Sealer
  /** What a sandbox of that id would own, for one of which no record can be trusted. */
  readonly deriveResources: (metadata: SandboxMetadata) => CheckpointData['resources']
}

const NAMELESS = 'unknown'
const STATES: readonly SandboxState[] = ['UNKNOWN', 'RUNNING', 'PENDING', 'STOPPED', 'REMOVING']

/**
 * Puts together what is known of every sandbox: its rows, its checkpoint where the rows are missing or not as we wrote
 * them, and its id alone where neither can be read. Whatever does not hold is said in `quarantined`; no sandbox is
 * dropped, since something of it may run.
 *
 * Synchronous, because the daemon has nothing to answer before it knows this; checkpoints of sound rows are not read.
 */
export function loadSandboxes(loaded: Loaded, options: LoadOptions, deps: LoadDeps): LoadedSandbox[] {
  const rows = new Map(loaded.sandboxes.map((row) => [row.id, row]))
  const networks = new Map(loaded.networks.map((row) => [row.sandbox_id, row]))
  const ledger = splitLedger(loaded).ofSandboxes
  const ids = new Set([...rows.keys(), ...ledger.keys(), ...ownerIds(sandboxesDir(options.roots.root))])
  return [...ids].map((id) => {
    const row = rows.get(id)
    const found = new Evidence(id, options, deps)
    const record = row
      ? found.fromRow(row, networks.get(id), ledger.get(id) ?? [])
      : found.fromCheckpoint(ledger.get(id) ?? [])
    return { record, hasRow: row !== undefined }
  })
}

/** What can be found out about one sandbox. */
class Evidence {
  readonly #id: string
  readonly #options: LoadOptions
  readonly #deps: LoadDeps
  readonly #problems: string[] = []
  #checkpoint: { data: CheckpointData; hash: string } | null | undefined

  constructor(id: string, options: LoadOptions, deps: LoadDeps) {
    this.#id = id
    this.#options = options
    this.#deps = deps
  }

  fromRow(row: SandboxRow, network: NetworkRow | undefined, ledger: readonly LedgerRow[]): SandboxRecord {
    const sealed = this.#deps.sealer.isSealed(row.seal, ...sandboxParts(row))
    if (!sealed) this.#problems.push('row of sandboxes: its seal does not match')
    const metadata = this.#metadata(row.metadata, sealed)
    const status = this.#status(row, sealed)
    // A sandbox that runs owns at least its directories: nobody of ours has struck them.
    if (ledger.length === 0 && status.state === 'RUNNING') this.#problems.push('ledger: all of its rows are missing')
    return {
      metadata,
      checkpointHash: row.checkpoint_hash,
      status,
      networks: this.#networks(network),
      entries: this.#entries(metadata, ledger),
      quarantined: this.#problems.join('; '),
    }
  }

  fromCheckpoint(ledger: readonly LedgerRow[]): SandboxRecord {
    const checkpoint = this.#readCheckpoint()
    if (!checkpoint) this.#problems.push('it has no row')
    const metadata = this.#metadata('', false)
    return {
      metadata,
      checkpointHash: checkpoint?.hash ?? '',
      status: unknownStatus(),
      networks: this.#networkFile(),
      entries: this.#entries(metadata, ledger),
      quarantined: this.#problems.join('; '),
    }
  }

  #metadata(text: string, sealed: boolean): SandboxMetadata {
    try {
      if (sealed) return decodeMetadata(JSON.parse(text))
    } catch (error) {
      this.#problems.push(`row of sandboxes: ${errorMessage(error)}`)
    }
    const checkpoint = this.#readCheckpoint()
    if (!checkpoint) return nameless(this.#id)
    try {
      return decodeMetadata(checkpoint.data.metadata)
    } catch (error) {
      this.#problems.push(`checkpoint: ${errorMessage(error)}`)
      return nameless(this.#id)
    }
  }

  /** A row that is not ours says nothing of a process: a stranger's pid must not be signalled. */
  #status(row: SandboxRow, sealed: boolean): SandboxStatus {
    const state = STATES.find((known) => known === row.state) ?? 'UNKNOWN'
    if (!sealed) return unknownStatus()
    try {
      return decodeStatus(state, row.status)
    } catch (error) {
      this.#problems.push(`row of sandboxes: ${errorMessage(error)}`)
      return unknownStatus()
    }
  }

  #networks(row: NetworkRow | undefined): readonly NetworkSetting[] {
    if (!row) return []
    if (this.#deps.sealer.isSealed(row.seal, ...networkParts(row))) return JSON.parse(row.settings) as NetworkSetting[]
    this.#problems.push('row of network_settings: its seal does not match')
    return this.#networkFile()
  }

  #networkFile(): readonly NetworkSetting[] {
    const path = sandboxPaths(this.#options.roots, this.#id).networkSettings
    try {
      const { data } = openCheckpoint(this.#deps.sealer, networkSubject(this.#id), readFileSync(path, 'utf8'))
      return data as NetworkSetting[]
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') this.#problems.push(`network settings: ${errorMessage(error)}`)
      return []
    }
  }

  #entries(metadata: SandboxMetadata, rows: readonly LedgerRow[]): LedgerEntry[] {
    const { sealer, deriveResources } = this.#deps
    const other = (): OtherSource =>
      this.#readCheckpoint()?.data ?? { bootId: this.#options.bootId, resources: deriveResources(metadata) }
    return ownedEntries(this.#id, rows, other, this.#problems, sealer)
  }

  #readCheckpoint(): { data: CheckpointData; hash: string } | null {
    if (this.#checkpoint !== undefined) return this.#checkpoint
    const path = sandboxPaths(this.#options.roots, this.#id).checkpoint
    this.#checkpoint = null
    try {
      if (!existsSync(path)) throw new Error('checkpoint: there is none')
      const { data, hash } = openCheckpoint(this.#deps.sealer, this.#id, readFileSync(path, 'utf8'))
      this.#checkpoint = { data: data as CheckpointData, hash }
    } catch (error) {
      this.#problems.push(errorMessage(error))
    }
    return this.#checkpoint
  }
}

function unknownStatus(): SandboxStatus {
  return { state: 'UNKNOWN', visible: true, process: null, exit: null, steps: [], failure: '' }
}

/** Whether nothing but the id of a sandbox is known. */
export function isNameless({ id, config }: SandboxMetadata): boolean {
  return config.metadata?.namespace === NAMELESS && config.metadata.uid === id
}

/** A stand-in for a sandbox of which only the id is known. The names are such that no kubelet has a pod for them. */
export function nameless(id: string): SandboxMetadata {
  const metadata = { name: `unknown-${id.slice(0, 12)}`, namespace: NAMELESS, uid: id, attempt: 0 }
  return {
    id,
    name: `k8s_POD_${metadata.name}_${metadata.namespace}_${id}_0`,
    config: {
      metadata,
      hostname: '',
      log_directory: '',
      dns_config: null,
      port_mappings: [],
      labels: {},
      annotations: {},
      linux: null,
      windows: null,
    },
    runtimeHandler: '',
    sandboxer: 'shim',
    netMode: 'cni',
    netnsPath: '',
    createdAtNs: 1n,
  }
}
