import type { Config } from '../../config/config.ts'
import { Container } from '../../container/container.ts'
import { loadContainers } from '../../container/load.ts'
import { containerPaths } from '../../container/paths.ts'
import { findLeftContainers, isRunning, type LeftOptions } from '../../executor/left-containers.ts'
import type { Shims } from '../../executor/shim/shims.ts'
import { isMissing } from '../../host/files.ts'
import type { DurableDeps } from '../../lifecycle/durable.ts'
import { loadSandboxes } from '../../sandbox/load.ts'
import { sandboxPaths } from '../../sandbox/paths.ts'
import { Sandbox } from '../../sandbox/sandbox.ts'
import type { Loaded } from '../../store/rows.ts'
import type { Unrecorded } from '../../doctor/unrecorded.ts'

/** All that a daemon would find at its start. */
export interface OfflineOwners {
  readonly sandboxes: readonly Sandbox[]
  readonly containers: readonly Container[]
  /** Those that have no row. */
  readonly unrecorded: Unrecorded
}

/**
 * Puts together what is on record. A directory with nothing in it that tells of a sandbox or container, of which nothing
 * runs either, is none.
 */
export async function loadOffline(
  loaded: Loaded,
  options: { readonly config: Config; readonly bootId: string; readonly left: LeftOptions },
  deps: DurableDeps & { readonly shims: Pick<Shims, 'listOwned'> },
): Promise<OfflineOwners> {
  const { config, bootId, left } = options
  const { sealer } = deps
  // What is not on record is not made up: it is looked for on the machine.
  const given = { sealer, deriveResources: () => [] }
  const roots = { root: config.root, state: config.state }
  const loadedSandboxes = loadSandboxes(loaded, { roots, bootId }, given)
  const loadedContainers = loadContainers(loaded, { roots, bootId }, given)
  const named = new Set(loaded.ledger.map((row) => row.owner_id))
  const runs = new Set(deps.shims.listOwned().map(({ taskId }) => taskId))
  for (const one of await findLeftContainers(() => true, left)) {
    if (isRunning(one, bootId)) runs.add(one.record.id)
  }
  const isReal = async (id: string, hasRow: boolean, checkpoint: string): Promise<boolean> =>
    hasRow || named.has(id) || runs.has(id) || !(await isMissing(checkpoint))
  const sandboxes: Sandbox[] = []
  const containers: Container[] = []
  const unrecorded = { sandboxes: [] as Sandbox[], containers: [] as Container[] }
  for (const { record, hasRow } of loadedSandboxes) {
    const { id } = record.metadata
    if (!(await isReal(id, hasRow, sandboxPaths(roots, id).checkpoint))) continue
    const sandbox = new Sandbox(record, deps)
    sandboxes.push(sandbox)
    if (!hasRow) unrecorded.sandboxes.push(sandbox)
  }
  for (const { record, hasRow } of loadedContainers) {
    const { id } = record.metadata
    if (!(await isReal(id, hasRow, containerPaths(roots, id).checkpoint))) continue
    const container = new Container(record, deps)
    containers.push(container)
    if (!hasRow) unrecorded.containers.push(container)
  }
  return { sandboxes, containers, unrecorded }
}
