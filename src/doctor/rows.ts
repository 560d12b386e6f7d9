import { dirname } from 'node:path'
import { type Checkpoint, readCheckpoint, sealCheckpoint, writeCheckpoint } from '../checkpoint/checkpoint.ts'
import type { Container } from '../container/container.ts'
import { containerPaths } from '../container/paths.ts'
import {
  type ContainerCheckpoint,
  checkpointSubject,
  encodeMetadata,
  hasFailed,
  plainMetadata,
} from '../container/status.ts'
import { canonicalJson } from '../core/canonical-json.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { Sealer } from '../core/seal.ts'
import { makeDirectory } from '../host/files.ts'
import { isNameless } from '../sandbox/load.ts'
import { sandboxPaths } from '../sandbox/paths.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { type CheckpointData, encodeMetadata as encodeSandbox } from '../sandbox/status.ts'
import { verifyCheckpoint } from '../sandbox/verify.ts'
import type { LedgerEntry } from '../store/ledger.ts'
import type { Check, Suspicion } from './doctor.ts'
import { type Records, short } from './records.ts'

export interface RowsOptions {
  readonly roots: { readonly root: string; readonly state: string }
  readonly bootId: string
}

export interface RowsDeps {
  readonly records: Records
  readonly sealer: Sealer
}

/** Of which only the id is left, and what there is to be done about it. */
const LOST = 'neither its row nor its checkpoint can be read: stop and remove it, which gives back what it has'
const GUESSED = 'its checkpoint is damaged, and its ledger as well: stop and remove it, which gives back what it has'
const NEWER = 'nothing of it is damaged: install the newer sandboxerd again, or stop and remove it'
const TAMPERED = /\b(?:row of|network settings:|ledger:)/

/** Rows and checkpoints of sandboxes: each is written anew from the other. What neither tells, nobody makes up. */
export function sandboxRows(options: RowsOptions, deps: RowsDeps): Check {
  return {
    look: async () => {
      const found = await Promise.all(deps.records.sandboxes().map((sandbox) => suspectSandbox(sandbox, options, deps)))
      return found.filter((suspicion) => suspicion !== null)
    },
  }
}

async function suspectSandbox(sandbox: Sandbox, options: RowsOptions, deps: RowsDeps): Promise<Suspicion | null> {
  const problem = await sandboxProblem(sandbox, options, deps)
  if (!problem) return null
  const { id } = sandbox
  return {
    ...problem,
    ownerId: id,
    message: `${problem.why} (sandbox ${short(id)}): ${problem.remedy}`,
    isStill: async () => (await sandboxProblem(sandbox, options, deps))?.kind === problem.kind,
    repair: problem.cannot === '' ? () => rewriteSandbox(sandbox, options, deps) : problem.cannot,
    settle: () => settled(id, deps.records),
  }
}

interface Problem {
  readonly kind: string
  readonly subject: string
  readonly why: string
  /** What is done about it. */
  readonly remedy: string
  /** Why nothing can be done; `''` where it can. */
  readonly cannot: string
}

/** One that is being made, or removed, has no checkpoint yet, or none any more; one that failed may never have had any. */
async function sandboxProblem(sandbox: Sandbox, options: RowsOptions, deps: RowsDeps): Promise<Problem | null> {
  const { status, quarantined, metadata, id } = sandbox
  if (!status.visible || status.state === 'REMOVING' || status.phase === 'created' || status.failure !== '') return null
  const subject = sandboxPaths(options.roots, id).checkpoint
  if (isNameless(metadata)) return { kind: 'record-lost', subject, why: quarantined, remedy: LOST, cannot: LOST }
  const { valid, problem, data } = await verifyCheckpoint(sandbox, options.roots, deps.sealer)
  const lacks = status.state === 'RUNNING' && data ? missingEntries(sandbox, data) : []
  const incomplete = lacks.length > 0 ? `ledger: ${lacks.map(({ kind }) => kind).join(', ')} is missing` : ''
  // A checkpoint that says the same of the sandbox holds, whatever hash the row has of it.
  if (!valid && data && isSameSandbox(sandbox, data)) return rowDamaged(id, quarantined || problem)
  return problemOf({ quarantined: quarantined || incomplete, problem: valid ? '' : problem, subject, id })
}

function problemOf(given: {
  readonly quarantined: string
  readonly problem: string
  readonly subject: string
  readonly id: string
}): Problem | null {
  const { quarantined, problem, subject, id } = given
  if (/\bformat version \d+ is newer\b/.test(problem)) {
    return { kind: 'checkpoint-newer', subject, why: problem, remedy: NEWER, cannot: NEWER }
  }
  if (problem !== '') {
    const cannot = /\bledger\b/.test(quarantined) ? GUESSED : ''
    const remedy = cannot || '--fix writes the checkpoint anew from the row'
    return { kind: 'checkpoint-damaged', subject, why: problem, remedy, cannot }
  }
  if (TAMPERED.test(quarantined)) return rowDamaged(id, quarantined)
  // A checkpoint that was damaged when it was read, and is sound now.
  const wasDamaged = /\bcheckpoint\b|disagree|another checkpoint/.test(quarantined)
  if (wasDamaged) {
    const remedy = '--fix takes it for what it is again'
    return { kind: 'quarantined', subject: `row of ${id}`, why: `${quarantined}; now it is sound`, remedy, cannot: '' }
  }
  if (quarantined === '') return null
  const cannot = 'nothing of it is damaged: it cannot be observed, and is looked at again when the daemon starts'
  return { kind: 'quarantined', subject: id, why: quarantined, remedy: cannot, cannot }
}

function rowDamaged(id: string, why: string): Problem {
  const remedy = '--fix writes the row anew from the checkpoint'
  return { kind: 'row-damaged', subject: `row of ${id}`, why, remedy, cannot: '' }
}

function isSameSandbox({ metadata }: Sandbox, data: CheckpointData): boolean {
  return canonicalJson(data.metadata) === encodeSandbox(metadata)
}

async function rewriteSandbox(sandbox: Sandbox, { roots, bootId }: RowsOptions, { sealer }: RowsDeps): Promise<void> {
  const path = sandboxPaths(roots, sandbox.id).checkpoint
  const read = await verifyCheckpoint(sandbox, roots, sealer)
  if (read.data && isSameSandbox(sandbox, read.data)) {
    const put = sandbox.status.state === 'RUNNING' ? missingEntries(sandbox, read.data) : []
    if (put.length > 0) await sandbox.save({ put })
    return sandbox.rewrite(read.hash)
  }
  const { metadata, entries } = sandbox
  const checkpoint = sealCheckpoint(sealer, sandbox.id, { metadata, ...resourcesOf(entries, bootId) })
  await write(path, checkpoint)
  await sandbox.rewrite(checkpoint.hash)
}

/** What one that runs was given, and its ledger lacks. */
function missingEntries({ id, entries }: Sandbox, { resources, bootId }: CheckpointData): LedgerEntry[] {
  const known = new Set(entries.map(({ seq }) => seq))
  const all = resources.map(({ kind, record }, seq): LedgerEntry => {
    return { ownerId: id, seq, kind, state: 'held', record, bootId }
  })
  return all.filter(({ seq }) => !known.has(seq))
}

/** The same for containers, whose rows name no checkpoint. */
export function containerRows(options: RowsOptions, deps: RowsDeps): Check {
  return {
    look: async () => {
      const all = deps.records.containers()
      const found = await Promise.all(all.map((container) => suspectContainer(container, options, deps)))
      return found.filter((suspicion) => suspicion !== null)
    },
  }
}

async function suspectContainer(container: Container, options: RowsOptions, deps: RowsDeps): Promise<Suspicion | null> {
  const problem = await containerProblem(container, options, deps)
  if (!problem) return null
  const { id } = container
  return {
    ...problem,
    ownerId: id,
    message: `${problem.why} (container ${short(id)}): ${problem.remedy}`,
    isStill: async () => (await containerProblem(container, options, deps))?.kind === problem.kind,
    repair: problem.cannot === '' ? () => rewriteContainer(container, options, deps) : problem.cannot,
    settle: () => settled(id, deps.records),
  }
}

async function containerProblem(
  { id, metadata, status, quarantined }: Container,
  { roots }: RowsOptions,
  { sealer }: RowsDeps,
): Promise<Problem | null> {
  if (!status.visible || status.removing || hasFailed(status)) return null
  const subject = containerPaths(roots, id).checkpoint
  if (metadata.sandboxId === '') return { kind: 'record-lost', subject, why: quarantined, remedy: LOST, cannot: LOST }
  let problem = ''
  try {
    const { data } = await readCheckpoint(sealer, checkpointSubject(id), subject)
    const isSame = canonicalJson((data as ContainerCheckpoint).metadata) === encodeMetadata(metadata)
    if (!isSame) problem = 'row and checkpoint disagree'
  } catch (error) {
    problem = errorMessage(error)
  }
  return problemOf({ quarantined, problem, subject, id })
}

async function rewriteContainer(container: Container, options: RowsOptions, deps: RowsDeps): Promise<void> {
  const { id, metadata, entries } = container
  if ((await containerProblem(container, options, deps))?.kind === 'checkpoint-damaged') {
    const data = { metadata: plainMetadata(metadata), ...resourcesOf(entries, options.bootId) }
    await write(containerPaths(options.roots, id).checkpoint, sealCheckpoint(deps.sealer, checkpointSubject(id), data))
  }
  await container.rewrite()
}

/** What a checkpoint has of the ledger. */
function resourcesOf(entries: readonly LedgerEntry[], bootId: string): Omit<ContainerCheckpoint, 'metadata'> {
  const resources = entries.map(({ kind, record }) => ({ kind, record }))
  return { bootId: entries[0]?.bootId ?? bootId, resources }
}

async function write(path: string, checkpoint: Checkpoint): Promise<void> {
  await makeDirectory(dirname(path))
  await writeCheckpoint(path, checkpoint)
}

async function settled(id: string, records: Records): Promise<void> {
  const why = await records.examine(id)
  if (why !== '') throw new CodedError('FailedPrecondition', `examine ${id} again: ${why}`)
}
