import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { canonicalJson } from '../../core/canonical-json.ts'
import { errnoOf, errorMessage } from '../../core/errors.ts'
import type { ProcessCheckpoints } from '../../executor/process-checkpoints.ts'
import { type ContainerRecord, isTask } from '../../executor/types.ts'
import { makeDirectory, readTextIfAny, removeTree, writeFileAtomic } from '../../host/files.ts'
import type { RunProgram } from '../../host/programs/outcome.ts'
import type { ExecutedContainers } from '../kinds/executed.ts'

/** What is under way outside of the stage, to be undone when nobody is left who does. */
export interface StageJournal {
  /** Containers that may be frozen. */
  readonly frozen: readonly ContainerRecord[]
  /** A file at a place of the caller's that is not whole yet; `''` is none. */
  readonly partial: string
}

/** A directory of our own for one checkpoint or restore. It goes when it is disposed of. */
export interface Stage extends AsyncDisposable {
  readonly path: string
}

/** By this ending such a file is known to be ours. */
export const PARTIAL_SUFFIX = '.sandboxerd-partial'
const JOURNAL = 'journal.json'
const REMOVE_MS = 30_000

/** Where checkpoints are put together and taken apart. What a daemon that died has left is undone by the next one. */
export class CheckpointStages {
  readonly #directory: string
  readonly #deps: StagesDeps

  constructor(options: { readonly root: string }, deps: StagesDeps) {
    this.#directory = join(options.root, 'checkpoints')
    this.#deps = deps
  }

  async open(journal: StageJournal = { frozen: [], partial: '' }): Promise<Stage> {
    const path = join(this.#directory, randomBytes(16).toString('hex'))
    await makeDirectory(path)
    await writeFileAtomic(join(path, JOURNAL), canonicalJson(journal))
    return { path, [Symbol.asyncDispose]: () => removeTree(path) }
  }

  /**
   * Lets containers run that an earlier daemon has left frozen, and begins to remove what it has left otherwise: to be
   * called before any stage is opened. What cannot be removed is logged.
   */
  async sweep(): Promise<void> {
    const names = await readdir(this.#directory).catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return []
      throw error
    })
    for (const name of names) {
      const path = join(this.#directory, name)
      try {
        const { frozen, partial } = await this.#journal(path)
        for (const item of frozen) {
          const record = this.#deps.executed.parse(item)
          if (!isTask(record)) await this.#deps.processes.thaw(record)
        }
        void this.#remove(path, partial)
      } catch (error) {
        this.#deps.logger.error({ path, error: errorMessage(error) }, 'interrupted checkpoint cannot be undone')
      }
    }
  }

  async #journal(path: string): Promise<StageJournal> {
    const text = await readTextIfAny(join(path, JOURNAL))
    // Without one, nothing had begun.
    return text === undefined ? { frozen: [], partial: '' } : (JSON.parse(text) as StageJournal)
  }

  async #remove(path: string, partial: string): Promise<void> {
    try {
      if (partial.endsWith(PARTIAL_SUFFIX)) await removePartial(partial, this.#deps.run)
      await removeTree(path)
      this.#deps.logger.warn({ path, partial }, 'interrupted checkpoint removed')
    } catch (error) {
      this.#deps.logger.error({ path, partial, error: errorMessage(error) }, 'interrupted checkpoint cannot be removed')
    }
  }
}

export interface StagesDeps {
  readonly processes: Pick<ProcessCheckpoints, 'thaw'>
  readonly executed: Pick<ExecutedContainers, 'parse'>
  readonly run: RunProgram
  readonly logger: Logger
}

/** Removes a file at a place of the caller's, which may hang. Nothing there is success. */
export async function removePartial(path: string, run: RunProgram): Promise<void> {
  await run('/bin/rm', ['-f', '--', path], { timeoutMs: REMOVE_MS })
}
