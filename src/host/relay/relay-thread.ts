import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { CodedError, errorCode, errorMessage } from '../../core/errors.ts'
import { type Answer, type CallMessage, sayLoaded } from '../../core/thread.ts'
import { loadDescriptors } from '../descriptors.ts'
import type { RelayCalls, RelayThreadData } from './relay-calls.ts'
import { PacketsCopy, Reception, type Relayed, TerminalCopy } from './relayed.ts'

// The entry of the relay thread. While it has something to relay it waits in the kernel, where it hears of all descriptors
// and of new messages at once; otherwise in its event loop. Nothing here is asynchronous: it would never have its turn.

/** What epoll says: of the two descriptors of an entry, 2 * key and 2 * key + 1. Nobody has the key 0. */
const WAKE = 0

interface Entry {
  /** Of the call that is answered at its end. */
  readonly id: number
  readonly fds: readonly number[]
  readonly relayed: Relayed
}

if (!parentPort) throw new CodedError('Internal', 'the relay thread has no parent')
const port = parentPort
const { epollFd, wakeFd } = workerData as RelayThreadData
const descriptors = loadDescriptors()
const counter = Buffer.alloc(8)
const entries = new Map<number, Entry>()
/** Those that may have something to do. */
const ready = new Set<number>()
let isClosed = false

descriptors.epollAdd(epollFd, wakeFd, WAKE)
port.on('message', (message: CallMessage) => {
  take(message)
  run()
})
sayLoaded(port)

function take({ id, method, argument }: CallMessage): void {
  try {
    handle(id, method, argument)
  } catch (error) {
    fail(id, error)
  }
}

function handle(id: number, method: string, argument: unknown): void {
  switch (method) {
    case 'terminal': {
      const { key, fd, peer } = argument as RelayCalls['terminal'][0]
      add(id, key, [fd, peer], new TerminalCopy(descriptors, fd, peer))
      return
    }
    case 'packets': {
      const { key, fd, peer, output } = argument as RelayCalls['packets'][0]
      add(id, key, [fd, peer], new PacketsCopy(descriptors, fd, peer, output))
      return
    }
    case 'receive': {
      const { key, fd } = argument as RelayCalls['receive'][0]
      const watch = (connection: number): void => descriptors.epollAdd(epollFd, connection, 2 * key)
      add(id, key, [fd], new Reception(descriptors, fd, watch))
      return
    }
    case 'finish': {
      const { key } = argument as RelayCalls['finish'][0]
      entries.get(key)?.relayed.finish()
      ready.add(key)
      break
    }
    case 'close':
      isClosed = true
      break
    default:
      throw new CodedError('Internal', `the relay thread has no call ${method}`)
  }
  reply(id, null)
}

function add(id: number, key: number, fds: readonly number[], relayed: Relayed): void {
  for (const [index, fd] of fds.entries()) descriptors.epollAdd(epollFd, fd, 2 * key + index)
  entries.set(key, { id, fds, relayed })
  ready.add(key)
}

function run(): void {
  while (entries.size > 0 && !isClosed) {
    for (const { data, isHungUp } of descriptors.epollWait(epollFd, timeoutMs())) {
      if (data === WAKE) {
        descriptors.read(wakeFd, counter)
        for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
          take(next.message as CallMessage)
        }
        continue
      }
      const key = Math.floor(data / 2)
      if (isHungUp && data % 2 === 1) entries.get(key)?.relayed.leave()
      ready.add(key)
    }
    const now = performance.now()
    for (const [key, { relayed }] of entries)
      if (relayed.dueAtMs !== undefined && relayed.dueAtMs <= now) ready.add(key)
    // One step of each, so that none waits for another that has much to do.
    const turn = [...ready]
    ready.clear()
    for (const key of turn) step(key)
  }
}

/** Until the next has something to do even though nothing happens. */
function timeoutMs(): number {
  if (ready.size > 0) return 0
  let dueAtMs = Number.POSITIVE_INFINITY
  for (const { relayed } of entries.values()) dueAtMs = Math.min(dueAtMs, relayed.dueAtMs ?? dueAtMs)
  return dueAtMs === Number.POSITIVE_INFINITY ? -1 : Math.max(Math.ceil(dueAtMs - performance.now()), 0)
}

function step(key: number): void {
  const entry = entries.get(key)
  if (!entry) return
  try {
    const next = entry.relayed.step()
    if (next === 'again') ready.add(key)
    if (next !== 'over') return
    remove(key, entry)
    reply(entry.id, entry.relayed.result)
  } catch (error) {
    remove(key, entry)
    fail(entry.id, error)
  }
}

/** Whoever gave us the descriptors closes them. */
function remove(key: number, { fds, relayed }: Entry): void {
  for (const fd of fds) descriptors.epollDelete(epollFd, fd)
  relayed[Symbol.dispose]()
  entries.delete(key)
}

function reply(id: number, value: unknown): void {
  port.postMessage({ id, value } satisfies Answer)
}

function fail(id: number, error: unknown): void {
  port.postMessage({ id, error: { code: errorCode(error), message: errorMessage(error) } } satisfies Answer)
}
