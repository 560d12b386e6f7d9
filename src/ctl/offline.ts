import { loadKey } from '../checkpoint/key.ts'
import type { Config } from '../config/config.ts'
import type { ContainerRecordData } from '../container/container.ts'
import { loadContainers } from '../container/load.ts'
import { CodedError, errnoOf } from '../core/errors.ts'
import { Sealer } from '../core/seal.ts'
import { readBootId } from '../host/process.ts'
import type { SandboxRecord } from '../sandbox/sandbox.ts'
import { loadSandboxes } from '../sandbox/load.ts'
import { readStoreCopy } from '../store/copy.ts'
import type { Loaded, OwnerRows } from '../store/rows.ts'

/** What is on record of a node, read without its daemon. */
export interface OfflineRecords {
  readonly sandboxes: readonly SandboxRecord[]
  readonly containers: readonly ContainerRecordData[]
  readonly rows: Loaded
  readonly sealer: Sealer
  /** What of the records as a whole does not hold. */
  readonly problems: readonly string[]
}

/**
 * Puts together what the daemon would find at its start, from its database and from checkpoints. It takes no lock and
 * changes nothing: a daemon may run, or start meanwhile.
 * @throws CodedError when database or key cannot be read.
 */
export async function readOffline(config: Config): Promise<OfflineRecords> {
  const [rows, key] = await Promise.all([
    readStoreCopy(`${config.root}/sandboxerd.db`),
    readKey(config.checkpointKeyFile),
  ])
  const sealer = new Sealer(key)
  const options = { roots: config, bootId: readBootId() }
  // What is not on record cannot be guessed without looking at the machine: that is what doctor does.
  const deps = { sealer, deriveResources: () => [] }
  const problem = rows.setAside && `${rows.setAside.path} is damaged (${rows.setAside.reason}): told from checkpoints`
  return {
    sandboxes: loadSandboxes(rows, options, deps).map(({ record }) => record),
    containers: loadContainers(rows, options, deps).map(({ record }) => record),
    rows,
    sealer,
    problems: problem === undefined ? [] : [problem],
  }
}

async function readKey(path: string): Promise<Buffer> {
  try {
    return await loadKey(path)
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'EACCES') throw new CodedError('PermissionDenied', `read ${path}: this user may not (try sudo)`)
    if (errno !== 'ENOENT') throw error
    // That it is not there says it all.
    throw new CodedError('NotFound', `read ${path}: there is none: sandboxerd has not run with this configuration`)
  }
}

/** What the database says of one sandbox or container. */
export function rowsOf({ sandboxes, networks, containers, ledger }: Loaded, id: string): OwnerRows {
  return {
    sandbox: sandboxes.find((row) => row.id === id) ?? null,
    network: networks.find((row) => row.sandbox_id === id) ?? null,
    container: containers.find((row) => row.id === id) ?? null,
    ledger: ledger.filter((row) => row.owner_id === id),
  }
}
