import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** Between two looks at what has come. */
const INTERVAL_MS = 200

/** How far a pull is. */
export interface PullState {
  /** It asks what the reference stands for, fetches layers, or unpacks them. The last two overlap; the slower one is told. */
  readonly stage: 'resolve' | 'download' | 'store'
  readonly doneBytes: number
  /** Of the layers that are not there already, compressed; null while it is not known. */
  readonly totalBytes: number | null
}

/** Is told at once how far a pull is, and whenever that has changed, at most five times a second. */
export type TellProgress = (state: PullState) => void

/** One pull, for those who watch it. Where nobody does, nothing is measured. */
export class PullTrack {
  readonly #watchers = new Set<TellProgress>()
  #state: PullState = { stage: 'resolve', doneBytes: 0, totalBytes: null }

  get isWatched(): boolean {
    return this.#watchers.size > 0
  }

  /** Tells until it is disposed of. */
  watch(tell: TellProgress): Disposable {
    this.#watchers.add(tell)
    tell(this.#state)
    return { [Symbol.dispose]: () => void this.#watchers.delete(tell) }
  }

  /** The layers come, into a directory that has nothing else; disposed of when they have. */
  download(directory: string, totalBytes: number | null): Disposable {
    this.#set({ stage: 'download', doneBytes: 0, totalBytes })
    let isLooking = false
    let isOver = false
    const look = async (): Promise<void> => {
      if (isLooking || !this.isWatched) return
      isLooking = true
      const bytes = await bytesIn(directory)
      isLooking = false
      if (!isOver) this.#arrived(bytes, totalBytes)
    }
    const timer = setInterval(() => void look(), INTERVAL_MS)
    return {
      [Symbol.dispose]: () => {
        isOver = true
        clearInterval(timer)
      },
    }
  }

  /** The layers are there, and become an image. */
  store(): void {
    const { doneBytes, totalBytes } = this.#state
    this.#set({ stage: 'store', doneBytes: totalBytes ?? doneBytes, totalBytes })
  }

  #arrived(bytes: number, totalBytes: number | null): void {
    // A file that is gone again was read: what has come stays come.
    const doneBytes = Math.min(Math.max(bytes, this.#state.doneBytes), totalBytes ?? Number.MAX_SAFE_INTEGER)
    this.#set({ stage: doneBytes === totalBytes ? 'store' : 'download', doneBytes, totalBytes })
  }

  #set(state: PullState): void {
    const { stage, doneBytes, totalBytes } = this.#state
    const isOld = stage === state.stage && doneBytes === state.doneBytes && totalBytes === state.totalBytes
    this.#state = state
    if (!isOld) for (const tell of this.#watchers) tell(state)
  }
}

/** What lies in a directory and below. What goes meanwhile counts as nothing. */
async function bytesIn(directory: string): Promise<number> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true }).catch(() => [])
  const sizes = entries
    .filter((entry) => entry.isFile())
    .map(async ({ parentPath, name }) =>
      stat(join(parentPath, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    )
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
}
