import { parentPort } from 'node:worker_threads'
import { answerCalls, Moved } from '../../core/thread.ts'
import type { LogCursor } from './log-cursor.ts'
import { FollowedLog } from './log.ts'
import type { LogCalls } from './logs.ts'

// The entry of the log thread.

/** Behind inotify, of which the queue may have overflowed, or which may not be to be had. */
const SWEEP_MS = 1000

const logs = new Map<string, { readonly log: FollowedLog; users: number }>()
const cursors = new Map<number, { readonly cursor: LogCursor | undefined; readonly key: string }>()
let sweep: NodeJS.Timeout | undefined

function follow({ ids, streams, ...place }: LogCalls['follow'][0]): void {
  const key = `${place.path}:${place.monitorPid}`
  const followed = logs.get(key) ?? { log: new FollowedLog(place), users: 0 }
  logs.set(key, followed)
  // Each is closed by its client, also when this one fails.
  for (const id of ids) cursors.set(id, { cursor: undefined, key })
  followed.users += ids.length
  for (const [index, stream] of streams.entries()) {
    cursors.set(ids[index] ?? 0, { cursor: followed.log.cursor(stream), key })
  }
  sweep ??= setInterval(() => {
    for (const { log } of logs.values()) log.look()
  }, SWEEP_MS)
}

async function read(id: number): Promise<Moved<Uint8Array> | null> {
  const chunk = (await cursors.get(id)?.cursor?.read()) ?? null
  return chunk && new Moved(chunk, [chunk.buffer as ArrayBuffer])
}

function close(id: number): void {
  const { cursor, key } = cursors.get(id) ?? {}
  cursors.delete(id)
  cursor?.[Symbol.dispose]()
  const followed = logs.get(key ?? '')
  if (!followed || --followed.users > 0) return
  followed.log[Symbol.dispose]()
  logs.delete(key ?? '')
  if (logs.size > 0) return
  clearInterval(sweep)
  sweep = undefined
}

if (!parentPort) throw new Error('the log thread has no parent')
answerCalls(parentPort, (method, argument) => {
  switch (method) {
    case 'follow':
      return follow(argument as LogCalls['follow'][0])
    case 'read':
      return read(argument as number)
    case 'end':
      return cursors.get(argument as number)?.cursor?.end()
    case 'close':
      return close(argument as number)
    default:
      throw new Error(`the log thread has no call ${method}`)
  }
})
