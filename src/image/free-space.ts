import { statfs } from 'node:fs/promises'
import { CodedError } from '../core/errors.ts'

/** Between two looks. What a fast disk takes in meanwhile has to fit into what is kept free. */
const INTERVAL_MS = 200
/** Files need more than bytes. Where the file system counts none, there is no such limit. */
const MIN_FREE_INODES = 5000n

/** A signal that aborts when its parent does, or when the disk gets full. */
export interface SpaceGuard extends Disposable {
  readonly signal: AbortSignal
}

/**
 * Watches the free space of a file system, so that nothing that is unpacked fills it: the daemon and its pods need some.
 * @throws CodedError `ResourceExhausted` when there is too little already; later that is the reason of the signal.
 */
export async function guardSpace(path: string, minFreeBytes: number, parent: AbortSignal): Promise<SpaceGuard> {
  const before = await lackOfSpace(path, minFreeBytes)
  if (before) throw before
  const controller = new AbortController()
  const onAbort = (): void => controller.abort(parent.reason)
  if (parent.aborted) onAbort()
  else parent.addEventListener('abort', onAbort, { once: true })
  let looking = false
  const look = async (): Promise<void> => {
    if (looking) return
    looking = true
    try {
      const lack = await lackOfSpace(path, minFreeBytes)
      if (lack) controller.abort(lack)
    } catch (cause) {
      controller.abort(new CodedError('Unavailable', `look for free space in ${path}`, { cause }))
    } finally {
      looking = false
    }
  }
  const timer = setInterval(() => void look(), INTERVAL_MS)
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      clearInterval(timer)
      parent.removeEventListener('abort', onAbort)
    },
  }
}

async function lackOfSpace(path: string, minFreeBytes: number): Promise<CodedError | undefined> {
  const { bavail, bsize, files, ffree } = await statfs(path, { bigint: true })
  const free = bavail * bsize
  if (free < BigInt(minFreeBytes)) {
    return new CodedError(
      'ResourceExhausted',
      `no space left: ${free} bytes are free in ${path}, ${minFreeBytes} are kept so`,
    )
  }
  if (files > 0n && ffree < MIN_FREE_INODES) {
    return new CodedError(
      'ResourceExhausted',
      `no space left: ${ffree} inodes are free in ${path}, ${MIN_FREE_INODES} are kept so`,
    )
  }
  return undefined
}
