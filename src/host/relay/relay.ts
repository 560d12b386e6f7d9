import { closeSync, constants, fstatSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { Socket } from 'node:net'
import { basename, dirname } from 'node:path'
import { sleep } from '../../core/deadline.ts'
import { CodedError, errnoOf } from '../../core/errors.ts'
import { AGAIN, type Descriptors } from '../descriptors.ts'
import { errnoName, O_PATH } from '../libc.ts'
import { type PacketOutput, RelayThread } from './relay-calls.ts'

/** Between two attempts to connect to a socket of which the queue is full. */
const CONNECT_PAUSE_MS = 10
/** Of rows and columns. */
const MAX_WINDOW = 0xffff

/** A pseudo-terminal, by its master. */
export interface Terminal {
  /**
   * What is written to it is typed, and what it reads was printed; it ends when the last process has closed the terminal and
   * all was read. The end of what is written is typed as well (Ctrl-D), where lines are read. When the socket has closed,
   * the terminal hangs up.
   */
  readonly socket: Socket
  /** Which terminal of the node it is: see `ProcessTree`. */
  readonly device: string
  /** Does nothing when the socket has closed. */
  resize(size: { readonly width: number; readonly height: number }): void
  /** Lets the output end after what was printed until now, also when a process still has the terminal. */
  finish(): void
}

/** A socket at which a runtime hands a terminal over; it is gone when that has come, or nobody waits any longer. */
export interface AwaitedTerminal {
  /** Null when none came. Rejected with `Unavailable` when the thread died. */
  readonly terminal: Promise<Terminal | null>
  /** Waits no longer: what has been sent by now has come. */
  stop(): void
}

/**
 * Descriptors that Node.js cannot read or write without loss, as sockets that it can: one thread waits for all of them, and
 * copies between each and a socket. For a receiver that does not read nothing is read, and nobody else waits for it.
 */
export class Relay implements AsyncDisposable {
  readonly #descriptors: Descriptors
  #thread: RelayThread | undefined
  #isClosed = false

  constructor(deps: { readonly descriptors: Descriptors }) {
    this.#descriptors = deps.descriptors
  }

  /** @param masterFd is closed when the socket has closed, or when this throws. */
  terminal(masterFd: number): Terminal {
    const descriptors = this.#descriptors
    try {
      descriptors.setNonBlocking(masterFd)
      const device = `${fstatSync(masterFd).dev}:${descriptors.terminalNumber(masterFd)}`
      const thread = this.#running()
      const [ours, peer] = descriptors.socketPair()
      const entry = thread.entry('terminal', { fd: masterFd, peer })
      const resize: Terminal['resize'] = ({ width, height }) => {
        if (!entry.isOver) descriptors.setWindowSize(masterFd, { width: within(width), height: within(height) })
      }
      return { socket: socketOf(ours, peer, masterFd, entry.over), device, resize, finish: () => entry.finish() }
    } catch (error) {
      closeSync(masterFd)
      throw error
    }
  }

  /**
   * Waits at a socket for somebody who connects and sends the master of a terminal.
   * @param path absolute, of any length; where only root can write.
   */
  async awaitTerminal(path: string): Promise<AwaitedTerminal> {
    const thread = this.#running()
    const fd = await viaDirectory(path, (address) => this.#descriptors.listen(address))
    const entry = thread.entry('receive', { fd })
    const received = entry.over.finally(() => {
      closeSync(fd)
      // The directory may have been removed meanwhile.
      rmSync(path, { force: true })
    })
    return {
      terminal: received.then((masterFd) => (masterFd === null ? null : this.terminal(masterFd))),
      stop: () => entry.finish(),
    }
  }

  /**
   * Connects to a socket of packets (SOCK_SEQPACKET) at an absolute path of any length. What is written goes out in packets
   * of at most 32 KiB, and its end as a shutdown. The socket ends when the other side has closed.
   *
   * @throws CodedError `Unavailable` when nobody listens there, or the abort reason.
   */
  async packets(path: string, options: { readonly output: PacketOutput }, signal: AbortSignal): Promise<Socket> {
    const thread = this.#running()
    const fd = await viaDirectory(path, (address) => this.#connect(path, address, signal))
    try {
      const [ours, peer] = this.#descriptors.socketPair()
      return socketOf(ours, peer, fd, thread.entry('packets', { fd, peer, ...options }).over)
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /** Closes all sockets. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true
    await this.#thread?.[Symbol.asyncDispose]()
  }

  async #connect(path: string, address: string, signal: AbortSignal): Promise<number> {
    for (;;) {
      signal.throwIfAborted()
      const fd = this.#descriptors.connectPackets(address)
      if (fd >= 0) return fd
      if (fd !== AGAIN) throw new CodedError('Unavailable', `connect to ${path}: ${errnoName(-fd)}`)
      await sleep(CONNECT_PAUSE_MS, signal)
    }
  }

  #running(): RelayThread {
    if (this.#isClosed) throw new CodedError('Unavailable', 'relay: closed')
    if (this.#thread?.isDead) void this.#thread[Symbol.asyncDispose]()
    if (!this.#thread || this.#thread.isDead) this.#thread = new RelayThread(this.#descriptors)
    return this.#thread
  }
}

/** Our end of a pair; the others are closed when the thread has done with them. */
function socketOf(ours: number, peer: number, fd: number, over: Promise<unknown>): Socket {
  const socket = new Socket({ fd: ours, readable: true, writable: true, allowHalfOpen: true })
  // Whoever has it sees it close.
  socket.on('error', () => undefined)
  over
    .catch((error: unknown) => socket.destroy(error instanceof Error ? error : new Error(String(error))))
    .finally(() => {
      closeSync(peer)
      closeSync(fd)
    })
  return socket
}

function within(count: number): number {
  return Math.max(Math.min(count, MAX_WINDOW), 0)
}

/** An address holds no more than 107 bytes: a longer path goes by way of its directory. */
async function viaDirectory(path: string, work: (address: string) => number | Promise<number>): Promise<number> {
  let directory: Awaited<ReturnType<typeof open>>
  try {
    directory = await open(dirname(path), O_PATH | constants.O_DIRECTORY)
  } catch (error) {
    throw new CodedError('Unavailable', `socket ${path}: ${errnoOf(error)}`, { cause: error })
  }
  try {
    return await work(`/proc/self/fd/${directory.fd}/${basename(path)}`)
  } finally {
    await directory.close()
  }
}
