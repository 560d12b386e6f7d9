import { existsSync, readFileSync } from 'node:fs'
import { openCheckpoint } from '../checkpoint/checkpoint.ts'
import { errorMessage } from '../core/errors.ts'
import type { Sealer } from '../core/seal.ts'
import { type OtherSource, ownedEntries, ownerIds } from '../lifecycle/records.ts'
import { type LedgerEntry, splitLedger } from '../store/ledger.ts'
import type { ContainerRow, LedgerRow, Loaded } from '../store/rows.ts'
import { type ContainerRecordData, containerParts } from './container.ts'
import { type ContainerRoots, containerPaths, containersDir } from './paths.ts'
import { type ContainerCheckpoint, checkpointSubject, decodeMetadata, decodeStatus, NEW_STATUS } from './status.ts'
import type { ContainerMetadata, ContainerState, ContainerStatus } from './types.ts'

/** A container as it is on record. */
export interface LoadedContainer {
  readonly record: ContainerRecordData
  /** Whether the database has a row of it; otherwise it was found by its checkpoint, or only by its directory. */
  readonly hasRow: boolean
}

export interface LoadOptions {
  readonly roots: ContainerRoots
  readonly bootId: string
}

export interface LoadDeps {
  readonly sealer: Sealer
  /** What a container of that id would own, for one of which no record can be trusted. */
  readonly deriveResources: (id: string) => ContainerCheckpoint['resources']
}

const STATES: readonly ContainerState[] = ['CREATED', 'RUNNING', 'EXITED', 'UNKNOWN']

/**
 * Puts together what is known of every container: its row, its checkpoint where the row is missing or not as we wrote it,
 * and its id alone where neither can be read. No container is dropped, since something of it may run.
 */
export function loadContainers(loaded: Loaded, options: LoadOptions, deps: LoadDeps): LoadedContainer[] {
  const rows = new Map(loaded.containers.map((row) => [row.id, row]))
  const ledger = splitLedger(loaded).ofContainers
  const ids = new Set([...rows.keys(), ...ledger.keys(), ...ownerIds(containersDir(options.roots.root))])
  return [...ids].map((id) => {
    const row = rows.get(id)
    return { record: new Evidence(id, options, deps).read(row, ledger.get(id) ?? []), hasRow: row !== undefined }
  })
}

/** What can be found out about one container. */
class Evidence {
  readonly #id: string
  readonly #options: LoadOptions
  readonly #deps: LoadDeps
  readonly #problems: string[] = []
  #checkpoint: ContainerCheckpoint | null | undefined

  constructor(id: string, options: LoadOptions, deps: LoadDeps) {
    this.#id = id
    this.#options = options
    this.#deps = deps
  }

  read(row: ContainerRow | undefined, ledger: readonly LedgerRow[]): ContainerRecordData {
    const sealed = row !== undefined && this.#deps.sealer.isSealed(row.seal, ...containerParts(row))
    if (row && !sealed) this.#problems.push('row of containers: its seal does not match')
    const metadata = this.#metadata(sealed ? row.metadata : undefined)
    // A row that is not ours says nothing of a process: a stranger's pid must not be signalled.
    const status = this.#status(sealed ? row : undefined)
    const entries = this.#entries(ledger)
    return { metadata, status, entries, quarantined: this.#problems.join('; ') }
  }

  #metadata(text: string | undefined): ContainerMetadata {
    try {
      if (text !== undefined) return decodeMetadata(JSON.parse(text))
      const checkpoint = this.#readCheckpoint()
      if (checkpoint) return decodeMetadata(checkpoint.metadata)
    } catch (error) {
      this.#problems.push(errorMessage(error))
    }
    return nameless(this.#id)
  }

  #status(row: ContainerRow | undefined): ContainerStatus {
    const unknown = { ...NEW_STATUS, visible: true }
    if (!row) return unknown
    try {
      return decodeStatus(STATES.find((known) => known === row.state) ?? 'UNKNOWN', row.status)
    } catch (error) {
      this.#problems.push(`row of containers: ${errorMessage(error)}`)
      return unknown
    }
  }

  #entries(rows: readonly LedgerRow[]): LedgerEntry[] {
    const { sealer, deriveResources } = this.#deps
    const other = (): OtherSource =>
      this.#readCheckpoint() ?? { bootId: this.#options.bootId, resources: deriveResources(this.#id) }
    return ownedEntries(this.#id, rows, other, this.#problems, sealer)
  }

  #readCheckpoint(): ContainerCheckpoint | null {
    if (this.#checkpoint !== undefined) return this.#checkpoint
    const path = containerPaths(this.#options.roots, this.#id).checkpoint
    this.#checkpoint = null
    try {
      if (!existsSync(path)) throw new Error('checkpoint: there is none')
      const text = readFileSync(path, 'utf8')
      this.#checkpoint = openCheckpoint(this.#deps.sealer, checkpointSubject(this.#id), text)
        .data as ContainerCheckpoint
    } catch (error) {
      this.#problems.push(errorMessage(error))
    }
    return this.#checkpoint
  }
}

/** A stand-in for a container of which only the id is known. No kubelet has a pod for it. */
function nameless(id: string): ContainerMetadata {
  return {
    id,
    name: `unknown-${id}`,
    sandboxId: '',
    config: {
      metadata: { name: `unknown-${id.slice(0, 12)}`, attempt: 0 },
      image: { image: 'unknown', annotations: {}, user_specified_image: '', runtime_handler: '', image_ref: '' },
      command: [],
      args: [],
      working_dir: '',
      envs: [],
      mounts: [],
      devices: [],
      labels: {},
      annotations: {},
      log_path: '',
      stdin: false,
      stdin_once: false,
      tty: false,
      linux: null,
      windows: null,
      CDI_devices: [],
      stop_signal: 'SIGNAL_RUNTIME_DEFAULT',
    },
    imageId: 'unknown',
    imageRef: 'unknown',
    mountedImageIds: [],
    logPath: '',
    stopSignal: 'SIGTERM',
    createdAtNs: 1n,
  }
}
