import { parentPort, workerData } from 'node:worker_threads'
import { answerCalls } from '../core/thread.ts'
import { openStore, type StoreFile } from './database.ts'
import type { Change } from './rows.ts'

// The entry of the store thread. All commits that are waiting become one, with one fsync.

interface Waiting {
  readonly changes: readonly Change[]
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

const { path } = workerData as { path: string }
let file: StoreFile | undefined
let waiting: Waiting[] = []

function flush(): void {
  const batch = waiting
  waiting = []
  const failures = file?.commit(batch.map(({ changes }) => changes)) ?? []
  for (const [index, { resolve, reject }] of batch.entries()) {
    const failure = failures[index]
    if (failure) reject(failure)
    else resolve()
  }
}

if (!parentPort) throw new Error('the store thread has no parent')
answerCalls(parentPort, (method, argument) => {
  switch (method) {
    case 'open':
      file = openStore(path, new Date())
      return file.loaded
    case 'commit':
      return new Promise<void>((resolve, reject) => {
        if (waiting.length === 0) setImmediate(flush)
        waiting.push({ changes: argument as readonly Change[], resolve, reject })
      })
    case 'rowsOf':
      return file?.rowsOf(argument as string)
    case 'close':
      return file?.close()
    default:
      throw new Error(`the store thread has no call ${method}`)
  }
})
