import { readCheckpoint } from '../checkpoint/checkpoint.ts'
import { containerParts } from '../container/container.ts'
import { type ContainerRoots, containerPaths } from '../container/paths.ts'
import { checkpointSubject } from '../container/status.ts'
import { canonicalJson } from '../core/canonical-json.ts'
import { errorCode, errorMessage } from '../core/errors.ts'
import type { Sealer } from '../core/seal.ts'
import { readTextIfAny } from '../host/files.ts'
import { sandboxPaths } from '../sandbox/paths.ts'
import { networkParts, sandboxParts } from '../sandbox/sandbox.ts'
import { networkSubject } from '../sandbox/status.ts'
import { readEntry } from '../store/ledger.ts'
import type { OwnerRows } from '../store/rows.ts'
import type { Inspection } from './api.ts'
import type { Found } from './find-owner.ts'
import { ledgerLines } from './ledger-lines.ts'

export interface InspectionDeps {
  readonly roots: ContainerRoots
  readonly sealer: Sealer
}

type Row = NonNullable<Inspection['row']>
type CheckpointFile = NonNullable<Inspection['checkpoint']>

/**
 * Puts side by side what is on record of one sandbox or container: what its rows say, as they are now, what its
 * checkpoint says, and whether all that holds. `runtime` is what whoever runs it says.
 */
export async function inspection(
  found: Found,
  rows: OwnerRows,
  runtime: { readonly state: unknown; readonly problem: string },
  deps: InspectionDeps,
): Promise<Inspection> {
  const { kind, facts } = found
  const { id, name } = facts.metadata
  const row = rowOf(rows, deps.sealer)
  const entries = rows.ledger.map((line) => readEntry(deps.sealer, line))
  const owed = facts.entries.filter(({ problem }) => problem !== undefined)
  const checkpoint = await checkpointOf(found, deps)
  const problems = [
    facts.quarantined,
    failureOf(found),
    row === null ? 'it has no row' : row.isSealed ? '' : 'its row is not as we wrote it: the seal does not match',
    ...entries.map(({ entry, trusted }) =>
      trusted ? '' : `ledger ${entry.seq} (${entry.kind}): its seal does not match`,
    ),
    ...owed.map(({ seq, kind, problem = '' }) => `ledger ${seq} (${kind}): its release is owed: ${problem}`),
    isNetworkSealed(rows, deps.sealer) ? '' : 'its network settings are not as we wrote them: the seal does not match',
    checkpointProblem(row, checkpoint),
    runtime.problem,
  ]
  return {
    id,
    kind,
    name,
    state: facts.status.state,
    row,
    checkpoint,
    ledger: ledgerLines(
      entries.map(({ entry }) => {
        const problem = owed.find(({ seq }) => seq === entry.seq)?.problem
        return problem === undefined ? entry : { ...entry, problem }
      }),
    ),
    network: rows.network === null ? null : parsed(rows.network.settings),
    runtime: runtime.state,
    problems: [...new Set(problems.filter((problem) => problem !== ''))],
  }
}

/** A sealed file of a sandbox or container, and why it is not to be trusted; `''` when it is. */
export interface Verified {
  readonly path: string
  readonly problem: string
}

/** Holds the sealed files of a sandbox or container against their seals and against its row. */
export async function verifyFiles(found: Found, rows: OwnerRows, deps: InspectionDeps): Promise<readonly Verified[]> {
  const checkpoint = await checkpointOf(found, deps)
  const { id } = found.facts.metadata
  const path = (found.kind === 'sandbox' ? sandboxPaths : containerPaths)(deps.roots, id).checkpoint
  const verified = { path, problem: checkpointProblem(rowOf(rows, deps.sealer), checkpoint) }
  return found.kind === 'sandbox' ? [verified, ...(await verifyNetwork(id, deps))] : [verified]
}

/** The second source of a sandbox's network settings; not every sandbox has any. */
async function verifyNetwork(id: string, { roots, sealer }: InspectionDeps): Promise<readonly Verified[]> {
  const path = sandboxPaths(roots, id).networkSettings
  try {
    await readCheckpoint(sealer, networkSubject(id), path)
    return [{ path, problem: '' }]
  } catch (error) {
    return errorCode(error) === 'NotFound' ? [] : [{ path, problem: errorMessage(error) }]
  }
}

/** The checkpoint file of a sandbox or container, and what is wrong with it; null when there is none. */
export async function checkpointOf(
  { kind, facts: { metadata } }: Found,
  { roots, sealer }: InspectionDeps,
): Promise<CheckpointFile | null> {
  const isSandbox = kind === 'sandbox'
  const path = (isSandbox ? sandboxPaths : containerPaths)(roots, metadata.id).checkpoint
  try {
    const subject = isSandbox ? metadata.id : checkpointSubject(metadata.id)
    const { data, hash } = await readCheckpoint(sealer, subject, path)
    return { path, problem: null, content: { hash, data } }
  } catch (error) {
    if (errorCode(error) === 'NotFound') return null
    // What can still be read of it tells more than nothing.
    const text = await readTextIfAny(path).catch(() => undefined)
    return { path, problem: errorMessage(error), content: text === undefined ? null : parsed(text) }
  }
}

function rowOf({ sandbox, container }: OwnerRows, sealer: Sealer): Row | null {
  if (sandbox) return { isSealed: sealer.isSealed(sandbox.seal, ...sandboxParts(sandbox)), columns: readable(sandbox) }
  if (!container) return null
  return { isSealed: sealer.isSealed(container.seal, ...containerParts(container)), columns: readable(container) }
}

function readable(row: { readonly metadata: string; readonly status: string }): Row['columns'] {
  return { ...row, metadata: parsed(row.metadata), status: parsed(row.status) }
}

function isNetworkSealed({ network }: OwnerRows, sealer: Sealer): boolean {
  return network === null || sealer.isSealed(network.seal, ...networkParts(network))
}

function checkpointProblem(row: Row | null, checkpoint: CheckpointFile | null): string {
  return checkpoint === null ? 'it has no checkpoint' : (checkpoint.problem ?? disagreement(row, checkpoint))
}

/** What a sound row and a sound checkpoint do not say alike. */
function disagreement(row: Row | null, { content }: CheckpointFile): string {
  if (!row?.isSealed) return ''
  const { hash, data } = content as { readonly hash: string; readonly data: { readonly metadata: unknown } }
  const { checkpoint_hash: expected, metadata } = row.columns
  if (expected !== undefined && expected !== hash) return 'the row was made with another checkpoint'
  return canonicalJson(metadata) === canonicalJson(data.metadata) ? '' : 'row and checkpoint disagree'
}

function failureOf({ kind, facts }: Found): string {
  const why = kind === 'sandbox' ? facts.status.failure : facts.status.message
  return why === '' ? '' : `it could not be run: ${why}`
}

/** JSON, or the text itself where it is none. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    // Shown as it is: it is what is wrong.
    return text
  }
}
