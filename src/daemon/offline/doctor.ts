import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { loadKey } from '../../checkpoint/key.ts'
import { CniNetworks } from '../../cni/cni-networks.ts'
import type { Config } from '../../config/config.ts'
import { CleanupStack } from '../../core/cleanup.ts'
import { sleep } from '../../core/deadline.ts'
import { CodedError, errnoOf, errorCode } from '../../core/errors.ts'
import { isOwnId } from '../../core/ids.ts'
import { Sealer } from '../../core/seal.ts'
import { Doctor, type Finding } from '../../doctor/doctor.ts'
import { databaseNewer, databaseSound, keyMissing } from '../../doctor/database.ts'
import type { Records } from '../../doctor/records.ts'
import { rowsMissing } from '../../doctor/unrecorded.ts'
import { loadContracts } from '../../grpc/load.ts'
import { Kernel } from '../../host/kernel/kernel.ts'
import { type Libc, loadLibc } from '../../host/libc.ts'
import { readBootId } from '../../host/process.ts'
import { Programs } from '../../host/programs/programs.ts'
import type { DurableDeps } from '../../lifecycle/durable.ts'
import { ownerIds } from '../../lifecycle/records.ts'
import { sandboxesDir } from '../../sandbox/paths.ts'
import type { Loaded } from '../../store/rows.ts'
import { readStoreCopy } from '../../store/copy.ts'
import { Store } from '../../store/store.ts'
import { createLogger, type Logger } from '../../telemetry/logger.ts'
import { doctorChecks, leftOptions } from '../doctor/checks.ts'
import { databasePath } from '../directories.ts'
import { lockInstance } from '../instance-lock.ts'
import { makeShims } from '../parts/shims.ts'
import { loadOffline, type OfflineOwners } from './records.ts'

const KERNEL_MS = 30_000
/** What is under way is seldom the same after so long. */
const AGAIN_MS = 5000

export interface OfflineOptions {
  readonly fix: boolean
  /** Told when a daemon has the node: what is looked for is then only told. */
  readonly onBusy?: () => void
}

/**
 * Examines a node without its daemon, which it keeps from starting meanwhile. Nothing of the daemon is started: what it
 * would recover at its next start is left to it. Where a daemon has the node nothing is repaired, and a finding is what is
 * found twice.
 * @throws CodedError `FailedPrecondition` when a daemon has the node, and something is to be repaired; `PermissionDenied`
 * for one who is not root.
 */
export async function examineOffline(
  config: Config,
  { fix, onBusy }: OfflineOptions,
  signal: AbortSignal,
): Promise<Finding[]> {
  const { root, checkpointKeyFile } = config
  const database = databasePath(root)
  const key = await keyIfAny(checkpointKeyFile)
  if (!key) return hasTraces(config, database) ? [keyMissing(checkpointKeyFile)] : []
  await using lock = new CleanupStack()
  const libc = loadLibc()
  const once = () => examineOnce(config, { fix, libc, database, sealer: new Sealer(key) }, signal)
  try {
    lock.use(lockInstance(libc, join(root, 'lock')))
  } catch (error) {
    if (fix || errorCode(error) !== 'FailedPrecondition') throw error
    onBusy?.()
    const first = await once()
    await sleep(AGAIN_MS, signal)
    const again = await once()
    return again.filter((finding) =>
      first.some(({ kind, subject }) => kind === finding.kind && subject === finding.subject),
    )
  }
  return await once()
}

/** The key; undefined when there is none. @throws CodedError `PermissionDenied` for those who can look at nothing. */
async function keyIfAny(path: string): Promise<Buffer | undefined> {
  try {
    return await loadKey(path)
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT') return undefined
    if (errno !== 'EACCES') throw error
    throw new CodedError('PermissionDenied', `read ${path}: this user may not (try sudo)`, { cause: error })
  }
}

/** Whether there are, or were, sandboxes on this node. */
function hasTraces({ root, state }: Config, database: string): boolean {
  return existsSync(database) || [root, state].some((directory) => ownerIds(sandboxesDir(directory)).length > 0)
}

async function examineOnce(
  config: Config,
  given: { readonly fix: boolean; readonly libc: Libc; readonly database: string; readonly sealer: Sealer },
  signal: AbortSignal,
): Promise<Finding[]> {
  const { fix, database, ...rest } = given
  await using parts = new CleanupStack()
  // What there is to say is in the findings.
  const logger = createLogger({ level: 'error', format: 'json' }, { write: () => undefined })
  let opened: { readonly store: DurableDeps['store']; readonly loaded: Loaded }
  try {
    opened = fix ? await openForRepair(database, parts) : { store: READ_ONLY, loaded: await readStoreCopy(database) }
  } catch (error) {
    if (errorCode(error) !== 'FailedPrecondition') throw error
    return [databaseNewer(database, error)]
  }
  const doctor = await openDoctor(config, { ...opened, ...rest, logger, database }, parts)
  return await doctor.examine(fix, signal)
}

async function openForRepair(path: string, parts: CleanupStack): Promise<{ store: Store; loaded: Loaded }> {
  const opened = await Store.open(path)
  parts.use(opened.store)
  return opened
}

/** Nothing is repaired without having been asked for. */
const READ_ONLY: DurableDeps['store'] = {
  commit: async () => {
    throw new CodedError('Internal', 'write the database: it was opened to be looked at')
  },
}

interface Opened {
  readonly store: DurableDeps['store']
  readonly loaded: Loaded
  readonly sealer: Sealer
  readonly libc: Libc
  readonly logger: Logger
  readonly database: string
}

async function openDoctor(config: Config, opened: Opened, parts: CleanupStack): Promise<Doctor> {
  const { loaded, sealer, libc, logger, database } = opened
  const programs = parts.use(new Programs())
  const kernel = parts.use(new Kernel({ timeoutMs: KERNEL_MS }))
  const bootId = readBootId()
  // To find and end shims, none of which is started here.
  const { shims } = makeShims(config, 0, { programs, libc, logger, bootId, messages: loadContracts().shim }, parts)
  const owners = await loadOffline(loaded, { config, bootId, left: leftOptions(config, bootId) }, { ...opened, shims })
  const records = recordsOf(owners, sealer)
  let networks: Promise<CniNetworks> | undefined
  const given = {
    bootId,
    isDaemonUp: false,
    records,
    sealer,
    kernel,
    programs,
    libc,
    shims,
    logger,
    networks: () => (networks ??= openNetworks(config, { programs, logger }, parts)),
  }
  return new Doctor(
    { repairMs: config.timeouts.releaseMs },
    {
      checks: [databaseSound(database, loaded), rowsMissing(owners.unrecorded), ...doctorChecks(config, given)],
      // The lock keeps everybody else away.
      alone: async (_id, work) => work(),
      logger,
    },
  )
}

function recordsOf({ sandboxes, containers }: OfflineOwners, sealer: Sealer): Records {
  const all = new Map([...sandboxes, ...containers].map((owner) => [owner.id, owner]))
  return {
    sandboxes: () => sandboxes,
    containers: () => containers,
    isKnown: (id) => all.has(id),
    isOwn: (id) => isOwnId(sealer, id),
    // The next daemon looks at everything.
    examine: async (id) => all.get(id)?.quarantined ?? '',
  }
}

/** Plugins are asked what they can do: only where one is needed. */
async function openNetworks(
  config: Config,
  { programs, logger }: { readonly programs: Programs; readonly logger: Logger },
  parts: CleanupStack,
): Promise<CniNetworks> {
  const options = { ...config.cni, timeoutMs: config.timeouts.cniMs }
  const networks = parts.use(new CniNetworks(options, { logger, run: programs.run }))
  await networks.start()
  return networks
}
