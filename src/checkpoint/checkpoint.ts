import { canonicalJson } from '../core/canonical-json.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import { type Sealer, sha256 } from '../core/seal.ts'
import { readTextIfAny, writeFileAtomic } from '../host/files.ts'

/** Of the format. One that is written by an older sandboxerd is read, by a case of its own; see `openCheckpoint`. */
const VERSION = 1

/** A checkpoint as text, and the hash of its data by which it is known. */
export interface Checkpoint {
  readonly text: string
  /** SHA-256 of the canonical JSON of the data, in hex. */
  readonly hash: string
}

/**
 * Seals data into checkpoint text: `{"data":…,"hash":…,"seal":…,"version":1}`, all canonical JSON.
 * The hash tells of damage, the seal (HMAC) of tampering. `subject` is what the data belongs to, e.g. a sandbox id:
 * a checkpoint copied to another place does not verify there.
 */
export function sealCheckpoint(sealer: Sealer, subject: string, data: unknown): Checkpoint {
  const canonical = canonicalJson(data)
  const hash = sha256(canonical)
  const seal = sealer.seal('checkpoint', String(VERSION), subject, hash)
  return { text: `{"data":${canonical},"hash":"${hash}","seal":"${seal}","version":${VERSION}}\n`, hash }
}

/**
 * Verifies checkpoint text and returns its data.
 * @throws CodedError `DataLoss` that says what does not hold: not JSON, a newer or unknown version, hash or seal mismatch.
 */
export function openCheckpoint(sealer: Sealer, subject: string, text: string): { data: unknown; hash: string } {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    throw new CodedError('DataLoss', `checkpoint of ${subject}: not JSON`, { cause: error })
  }
  const { data, hash, seal, version } = (parsed ?? {}) as Partial<Record<'data' | 'hash' | 'seal' | 'version', unknown>>
  if (version !== VERSION) throw new CodedError('DataLoss', `checkpoint of ${subject}: ${whyNotVersion(version)}`)
  if (typeof hash !== 'string' || typeof seal !== 'string' || data === undefined) {
    throw new CodedError('DataLoss', `checkpoint of ${subject}: data, hash or seal is missing`)
  }
  if (sha256(canonicalJson(data)) !== hash)
    throw new CodedError('DataLoss', `checkpoint of ${subject}: hash does not match`)
  if (!sealer.isSealed(seal, 'checkpoint', String(VERSION), subject, hash)) {
    throw new CodedError('DataLoss', `checkpoint of ${subject}: seal does not match`)
  }
  return { data, hash }
}

function whyNotVersion(version: unknown): string {
  if (!Number.isInteger(version) || Number(version) < VERSION) return `version ${JSON.stringify(version)} is not known`
  return `its format version ${String(version)} is newer than ${VERSION}: it was written by a newer sandboxerd, which can read it`
}

/** Writes a checkpoint so that a crash leaves the old one or the new one, both whole. */
export async function writeCheckpoint(path: string, checkpoint: Checkpoint): Promise<void> {
  await writeFileAtomic(path, checkpoint.text, 0o600)
}

/**
 * Reads and verifies a checkpoint file.
 * @throws CodedError `NotFound` when there is none, `DataLoss` when it does not verify or cannot be read.
 */
export async function readCheckpoint(
  sealer: Sealer,
  subject: string,
  path: string,
): Promise<{ data: unknown; hash: string }> {
  let text: string | undefined
  try {
    text = await readTextIfAny(path)
  } catch (error) {
    throw new CodedError('DataLoss', `read checkpoint ${path}: ${errorMessage(error)}`, { cause: error })
  }
  if (text === undefined) throw new CodedError('NotFound', `read checkpoint ${path}: no such file`)
  return openCheckpoint(sealer, subject, text)
}
