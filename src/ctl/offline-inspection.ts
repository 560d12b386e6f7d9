import type { Inspection } from '../admin/api.ts'
import { type Found, findOwner } from '../admin/find-owner.ts'
import { checkpointOf, inspection, type Verified, verifyFiles } from '../admin/inspection.ts'
import { recordedProcess } from '../admin/runtime-state.ts'
import type { Config } from '../config/config.ts'
import { type OfflineRecords, rowsOf } from './offline.ts'

/** What the daemon would answer, from what is on record. @throws CodedError as {@link findOwner}. */
export async function inspectRecords(id: string, records: OfflineRecords, roots: Config): Promise<Inspection> {
  const { sandboxes, containers, rows, sealer } = records
  const found = findOwner(id, sandboxes, containers)
  return inspection(found, rowsOf(rows, found.facts.metadata.id), recordedProcess(found), { roots, sealer })
}

/** The checkpoint of a sandbox or container, as far as it can be read; null when there is none. */
export async function recordedCheckpoint(
  id: string,
  { sandboxes, containers, sealer }: OfflineRecords,
  roots: Config,
): Promise<Inspection['checkpoint']> {
  return checkpointOf(findOwner(id, sandboxes, containers), { roots, sealer })
}

/** A sealed file and whose it is. */
export interface OwnersFile extends Verified {
  readonly id: string
  readonly kind: Found['kind']
  readonly name: string
}

/**
 * Verifies the sealed files of all sandboxes and containers, or of some. One that is just being made may have none yet,
 * and is left out.
 */
export async function verifyRecords(
  ids: readonly string[],
  { sandboxes, containers, rows, sealer }: OfflineRecords,
  roots: Config,
): Promise<readonly OwnersFile[]> {
  const all: readonly Found[] = [
    ...sandboxes.map((facts) => ({ kind: 'sandbox', facts }) as const),
    ...containers.map((facts) => ({ kind: 'container', facts }) as const),
  ]
  const wanted = ids.length === 0 ? all : ids.map((id) => findOwner(id, sandboxes, containers))
  const files: OwnersFile[] = []
  for (const found of wanted.filter(({ facts }) => facts.status.visible)) {
    const { id, name } = found.facts.metadata
    const verified = await verifyFiles(found, rowsOf(rows, id), { roots, sealer })
    files.push(...verified.map((file) => ({ id, kind: found.kind, name, ...file })))
  }
  return files
}
