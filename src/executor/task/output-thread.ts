import { parentPort } from 'node:worker_threads'
import { CodedError, errorMessage } from '../../core/errors.ts'
import { answerCalls, Moved } from '../../core/thread.ts'
import type { OutputName } from '../attach/records.ts'
import { CriLog, type LogTarget } from './cri-log.ts'
import { FifoReader } from './fifo-reader.ts'
import type { OutputCalls, OutputTrouble } from './output-calls.ts'
import { OutputTee } from './output-tee.ts'

// The entry of an output thread. It waits for its disk: what it has read is in the log before it reads on.

interface Container {
  readonly target: LogTarget | null
  /** Null without a target, or when it could not be had. */
  log: CriLog | null
  readonly readers: FifoReader[]
  readonly tees: Set<OutputTee>
  isTroubled: boolean
}

const containers = new Map<number, Container>()
const tees = new Map<number, { readonly tee: OutputTee; readonly key: number }>()
const troubles: OutputTrouble[] = []
let onTrouble: ((trouble: OutputTrouble) => void) | undefined

function open({ key, fifos, log: target, isResumed }: OutputCalls['open'][0]): void {
  const log = isResumed ? logIfAny(key, target) : target && new CriLog(target)
  const container: Container = { target, log, readers: [], tees: new Set(), isTroubled: false }
  containers.set(key, container)
  try {
    for (const { stream, path } of fifos) {
      container.readers.push(new FifoReader(path, (chunk) => take(key, container, stream, chunk)))
    }
  } catch (error) {
    close(key)
    throw error
  }
}

function logIfAny(key: number, target: LogTarget | null): CriLog | null {
  try {
    return target && new CriLog(target)
  } catch (error) {
    tell({ key, message: errorMessage(error) })
    return null
  }
}

function take(key: number, container: Container, stream: OutputName, chunk: Buffer): void {
  for (const tee of container.tees) if (tee.stream === stream) tee.add(chunk)
  try {
    container.log?.append(stream, chunk)
    container.isTroubled = false
  } catch (error) {
    // Told once, until it goes better again.
    if (!container.isTroubled) tell({ key, message: errorMessage(error) })
    container.isTroubled = true
  }
}

function tell(trouble: OutputTrouble): void {
  if (onTrouble) onTrouble(trouble)
  else troubles.push(trouble)
  onTrouble = undefined
}

async function nextTrouble(): Promise<OutputTrouble> {
  const trouble = troubles.shift()
  if (trouble) return trouble
  return new Promise((resolve) => {
    onTrouble = resolve
  })
}

async function finish(key: number): Promise<void> {
  const container = containers.get(key)
  await Promise.all((container?.readers ?? []).map((reader) => reader.drained()))
  for (const tee of container?.tees ?? []) tee.end()
}

function reopen(key: number): void {
  const container = containers.get(key)
  if (!container) throw new CodedError('FailedPrecondition', 'its output is not read')
  if (container.log) container.log.reopen()
  else if (container.target) container.log = new CriLog(container.target)
}

function close(key: number): void {
  const container = containers.get(key)
  containers.delete(key)
  for (const reader of container?.readers ?? []) reader[Symbol.dispose]()
  container?.log?.[Symbol.dispose]()
  for (const tee of container?.tees ?? []) tee.end()
}

function addTee({ key, ids, streams }: OutputCalls['tee'][0]): void {
  const container = containers.get(key)
  if (!container) throw new CodedError('FailedPrecondition', 'its output is not read')
  for (const [index, stream] of streams.entries()) {
    const tee = new OutputTee(stream)
    container.tees.add(tee)
    tees.set(ids[index] ?? 0, { tee, key })
  }
}

async function readTee(id: number): Promise<Moved<Uint8Array> | null> {
  const chunk = (await tees.get(id)?.tee.read()) ?? null
  return chunk && new Moved(chunk, [chunk.buffer])
}

function closeTee(id: number): void {
  const { tee, key } = tees.get(id) ?? {}
  tees.delete(id)
  if (!tee) return
  tee.end()
  containers.get(key ?? 0)?.tees.delete(tee)
}

if (!parentPort) throw new CodedError('Internal', 'the output thread has no parent')
answerCalls(parentPort, (method, argument) => {
  switch (method) {
    case 'open':
      return open(argument as OutputCalls['open'][0])
    case 'finish':
      return finish(argument as number)
    case 'reopen':
      return reopen(argument as number)
    case 'close':
      return close(argument as number)
    case 'tee':
      return addTee(argument as OutputCalls['tee'][0])
    case 'readTee':
      return readTee(argument as number)
    case 'closeTee':
      return closeTee(argument as number)
    case 'trouble':
      return nextTrouble()
    default:
      throw new CodedError('Internal', `the output thread has no call ${method}`)
  }
})
