import { readlink, stat, unlink, writeFile } from 'node:fs/promises'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { ResourceKind } from '../core/resource.ts'
import type { Kernel } from '../host/kernel/kernel.ts'
import { cgroupsOf, isAlive } from '../host/process.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import type { LedgerEntry } from '../store/ledger.ts'
import type { Check, Suspicion } from './doctor.ts'
import { type Records, short } from './records.ts'

export interface MissingDeps {
  readonly records: Records
  /** The kinds whose resources can be looked for; a record of another kind is taken at its word. */
  readonly ofSandboxes: readonly ResourceKind<unknown>[]
  readonly ofContainers: readonly ResourceKind<unknown>[]
  readonly kernel: Pick<Kernel, 'bindMount'>
}

const CANNOT = 'it cannot be made again below what runs: stop and remove it, and its pod is made anew'

/** What the ledger has as held, of somebody who runs, and is not there. */
export function missingResources(bootId: string, deps: MissingDeps): Check {
  return {
    look: async () => {
      const { records, ofSandboxes, ofContainers } = deps
      const sandboxes = records.sandboxes().filter(({ status }) => status.state === 'RUNNING' && status.visible)
      const containers = records.containers().filter(({ status }) => status.state === 'RUNNING' && status.visible)
      const found: Suspicion[] = []
      for (const owner of sandboxes) {
        for (const entry of await missingOf(owner.entries, ofSandboxes, bootId)) {
          const isStill = async (): Promise<boolean> =>
            owner.status.state === 'RUNNING' && (await missingOf(owner.entries, ofSandboxes, bootId)).includes(entry)
          found.push(
            suspect(entry, isStill, canPin(owner, entry, bootId) ? () => pinAgain(owner, entry, deps) : CANNOT),
          )
        }
      }
      for (const owner of containers) {
        for (const entry of await missingOf(owner.entries, ofContainers, bootId)) {
          const isStill = async (): Promise<boolean> =>
            owner.status.state === 'RUNNING' && (await missingOf(owner.entries, ofContainers, bootId)).includes(entry)
          found.push(suspect(entry, isStill, CANNOT))
        }
      }
      return found
    },
  }
}

function suspect(entry: LedgerEntry, isStill: () => Promise<boolean>, repair: Suspicion['repair']): Suspicion {
  const { ownerId, kind } = entry
  const subject = pathOf(entry) || kind
  const remedy = typeof repair === 'string' ? repair : '--fix pins it again, from the process that is in it'
  const message = `${kind} of ${short(ownerId)} is held on record, and is not there: ${remedy}`
  return { kind: 'resource-missing', ownerId, subject, message, isStill, repair }
}

async function missingOf(
  entries: readonly LedgerEntry[],
  kinds: readonly ResourceKind<unknown>[],
  bootId: string,
): Promise<LedgerEntry[]> {
  const held = entries.filter((entry) => entry.state === 'held' && entry.bootId === bootId)
  const isThere = await Promise.all(held.map((entry) => probe(entry, kinds)))
  return held.filter((_, at) => !isThere[at])
}

async function probe({ kind, record }: LedgerEntry, kinds: readonly ResourceKind<unknown>[]): Promise<boolean> {
  const found = kinds.find((candidate) => candidate.kind === kind)
  try {
    return found === undefined || (await found.probe(found.parse(record)))
  } catch (error) {
    // A record that cannot be read is told by the check of the rows.
    if (error instanceof CodedError && error.code === 'DataLoss') return true
    throw new CodedError('Internal', `look for ${kind}: ${errorMessage(error)}`, { cause: error })
  }
}

/** A network namespace lives on in the process that is in it. */
function canPin({ status }: Sandbox, entry: LedgerEntry, bootId: string): boolean {
  return entry.kind === 'netns' && status.process !== null && isAlive(status.process, bootId)
}

async function pinAgain({ status }: Sandbox, entry: LedgerEntry, { kernel }: MissingDeps): Promise<void> {
  const path = pathOf(entry)
  const pid = status.process?.pid ?? 0
  const source = `/proc/${pid}/ns/net`
  const isOfPod = [...(await cgroupsOf(pid)).values()].some((cgroup) => cgroup.includes(entry.ownerId))
  // The process on record of a pod in a virtual machine is that of its shim, which is elsewhere.
  if (!isOfPod || (await readlink(source)) === (await readlink('/proc/self/ns/net'))) {
    throw new CodedError('FailedPrecondition', `pin ${path}: no process of the pod is in its network`)
  }
  const isThere = await stat(path).then(
    () => true,
    () => false,
  )
  if (!isThere) await writeFile(path, '', { mode: 0o444, flag: 'wx' })
  try {
    await kernel.bindMount({ source, path })
  } catch (error) {
    if (!isThere) await unlink(path)
    throw error
  }
}

/** What a record of a mount or a pin names; `''` for others. */
function pathOf({ record }: LedgerEntry): string {
  const path = (record as { path?: unknown } | null)?.path
  return typeof path === 'string' ? path : ''
}
