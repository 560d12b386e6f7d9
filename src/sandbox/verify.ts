import { readCheckpoint } from '../checkpoint/checkpoint.ts'
import { canonicalJson } from '../core/canonical-json.ts'
import { errorMessage } from '../core/errors.ts'
import type { Sealer } from '../core/seal.ts'
import { type SandboxRoots, sandboxPaths } from './paths.ts'
import type { Sandbox } from './sandbox.ts'
import { type CheckpointData, encodeMetadata } from './status.ts'

/** Whether the checkpoint of a sandbox holds, and says the same as the database. */
export interface Verification {
  readonly path: string
  readonly hash: string
  readonly valid: boolean
  /** What does not hold; `''` when all does. */
  readonly problem: string
  /** What the sandbox was given, as far as the checkpoint can be read. */
  readonly data: CheckpointData | null
}

/** Reads the checkpoint of a sandbox and holds it against what the database says. Throws nothing. */
export async function verifyCheckpoint(sandbox: Sandbox, roots: SandboxRoots, sealer: Sealer): Promise<Verification> {
  const { checkpoint: path } = sandboxPaths(roots, sandbox.id)
  try {
    const read = await readCheckpoint(sealer, sandbox.id, path)
    const data = read.data as CheckpointData
    const problem = disagreement(sandbox, data, read.hash)
    return { path, hash: read.hash, valid: problem === '', problem, data }
  } catch (error) {
    return { path, hash: '', valid: false, problem: errorMessage(error), data: null }
  }
}

function disagreement(sandbox: Sandbox, data: CheckpointData, hash: string): string {
  if (hash !== sandbox.checkpointHash) return 'the row of the sandbox was made with another checkpoint'
  if (canonicalJson(data.metadata) !== encodeMetadata(sandbox.metadata)) return 'row and checkpoint disagree'
  return ''
}
