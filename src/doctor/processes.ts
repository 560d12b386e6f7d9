import type { Container } from '../container/container.ts'
import { notBefore } from '../container/status.ts'
import { sleep } from '../core/deadline.ts'
import { CodedError } from '../core/errors.ts'
import { nowNs } from '../core/now.ts'
import type { ExitStatus } from '../executor/types.ts'
import { isPinnedNamespace } from '../host/kernel/namespace-file.ts'
import { isAlive, type ProcessIdentity } from '../host/process.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import type { LedgerEntry } from '../store/ledger.ts'
import type { Check, Suspicion } from './doctor.ts'
import { type Records, short } from './records.ts'

export interface LifelessOptions {
  readonly bootId: string
  /** How long a daemon that runs may take to notice an end; 0 where none runs. */
  readonly patienceMs: number
}

export interface LifelessDeps {
  readonly records: Records
  /** Whether a shim of ours has this sandbox: it tells how its processes ended when it is asked. */
  readonly hasShim: (sandboxId: string) => boolean
  /** The exit status that a monitor has written down. */
  readonly exitOf: (id: string) => Promise<ExitStatus | null>
  /** Whether a daemon runs: it finds out itself how it ended. */
  readonly isDaemonUp: boolean
}

/**
 * Sandboxes and containers that run as their rows have it, and whose processes are gone. What ended with another boot is
 * no damage: the next daemon puts that on record.
 */
export function rowsWithoutProcess(options: LifelessOptions, deps: LifelessDeps): Check {
  return {
    look: async (signal) => {
      if ((await lifeless(options, deps)).length === 0) return []
      // A daemon notices an end within a moment.
      if (options.patienceMs > 0) await sleep(options.patienceMs, signal)
      return lifeless(options, deps)
    },
  }
}

async function lifeless(options: LifelessOptions, deps: LifelessDeps): Promise<Suspicion[]> {
  const { bootId } = options
  const { records, hasShim } = deps
  const found: Suspicion[] = []
  for (const sandbox of records.sandboxes()) {
    const isStill = async (): Promise<boolean> => (await isSandboxLifeless(sandbox, bootId)) && !hasShim(sandbox.id)
    if (await isStill()) found.push(suspect(sandbox, 'sandbox', { isStill, end: endSandbox }, deps))
  }
  for (const container of records.containers()) {
    const isStill = async (): Promise<boolean> =>
      isContainerLifeless(container, bootId) && !hasShim(container.metadata.sandboxId)
    if (await isStill()) found.push(suspect(container, 'container', { isStill, end: endContainer }, deps))
  }
  return found
}

function suspect<T extends Sandbox | Container>(
  owner: T,
  what: string,
  { isStill, end }: { isStill: () => Promise<boolean>; end: (owner: T, exit: ExitStatus) => Promise<void> },
  { exitOf, isDaemonUp, records }: LifelessDeps,
): Suspicion {
  const { id } = owner
  const { state, process } = owner.status
  const gone = process ? `process ${process.pid}` : 'pinned namespaces'
  return {
    kind: 'row-without-process',
    ownerId: id,
    subject: gone,
    message: `${what} ${short(id)} is ${state} on record, and its ${gone} is gone: --fix puts its end on record`,
    isStill,
    repair: async () => {
      // The daemon does the same, with all that follows.
      if (!isDaemonUp) await end(owner, (await exitOf(id)) ?? { code: 255, atNs: nowNs(), reason: 'Unknown' })
    },
    settle: isDaemonUp ? () => examineAgain(id, isStill, records) : undefined,
  }
}

/** Has the daemon find out how it ended. @throws CodedError when it does not. */
async function examineAgain(id: string, isStill: () => Promise<boolean>, records: Records): Promise<void> {
  const why = await records.examine(id)
  if (!(await isStill())) return
  throw new CodedError('FailedPrecondition', `examine ${id} again: ${why || 'nobody knows yet how it ended'}`)
}

async function endSandbox(sandbox: Sandbox, exit: ExitStatus): Promise<void> {
  await sandbox.save({
    status: (current) => ({ ...current, state: 'STOPPED', exit }),
    log: { why: 'its process was gone' },
  })
}

async function endContainer(container: Container, exit: ExitStatus): Promise<void> {
  await container.save({
    status: (current) => ({ ...current, state: 'EXITED', exit: notBefore(exit, current.startedAtNs) }),
    log: { why: 'its process was gone' },
  })
}

async function isSandboxLifeless({ status, entries }: Sandbox, bootId: string): Promise<boolean> {
  if (status.state !== 'RUNNING' || !status.visible || status.exit) return false
  if (status.process) return isGone(status.process, bootId)
  return hasLostPins(entries, bootId)
}

function isContainerLifeless({ status }: Container, bootId: string): boolean {
  const { state, visible, removing, exit, process } = status
  if ((state !== 'RUNNING' && state !== 'CREATED') || !visible || removing || exit || !process) return false
  return isGone(process, bootId)
}

/** One that only a Task service knows has no start time: who runs it tells. */
function isGone(process: ProcessIdentity, bootId: string): boolean {
  return process.startTime !== '' && process.bootId === bootId && !isAlive(process, bootId)
}

/** A sandbox without a process lives for as long as its namespaces are pinned. */
async function hasLostPins(entries: readonly LedgerEntry[], bootId: string): Promise<boolean> {
  const entry = entries.find(({ kind }) => kind === 'controller')
  if (!entry || entry.bootId !== bootId) return false
  const { sandboxer, record } = entry.record as { sandboxer?: unknown; record?: Record<string, unknown> }
  if (sandboxer !== 'pinned') return false
  const pins = [record?.['ipcPath'], record?.['utsPath']].filter((path) => typeof path === 'string' && path !== '')
  const pinned = await Promise.all(pins.map((path) => isPinnedNamespace(String(path))))
  return pinned.includes(false)
}
