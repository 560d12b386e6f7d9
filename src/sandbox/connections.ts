import type { Socket } from 'node:net'
import { deadline } from '../core/deadline.ts'
import { CodedError, errorCode, errorMessage } from '../core/errors.ts'
import type { Kernel } from '../host/kernel/kernel.ts'
import { connectLoopback } from '../host/loopback.ts'
import type { SandboxView } from './types.ts'

/**
 * Connections to servers in pods. A socket keeps the network namespace that it was made in alive: those of a pod end with it.
 */
export class Connections {
  readonly #timeoutMs: number
  readonly #kernel: Pick<Kernel, 'tcpSocket'>
  readonly #open = new Map<string, Set<Socket>>()

  constructor(options: { readonly timeoutMs: number }, deps: { readonly kernel: Pick<Kernel, 'tcpSocket'> }) {
    this.#timeoutMs = options.timeoutMs
    this.#kernel = deps.kernel
  }

  /** As `Sandboxes.connect`. @throws CodedError `DeadlineExceeded` when nobody answers at all. */
  async connect(sandbox: { readonly view: SandboxView }, port: number, signal: AbortSignal): Promise<Socket> {
    const { id, netMode, netnsPath } = sandbox.view.metadata
    const what = `connect to port ${port} of pod sandbox ${id}`
    requireReady(sandbox.view, what)
    using limit = deadline(what, this.#timeoutMs, signal)
    const request = { netns: netMode === 'host' ? null : netnsPath, port }
    const socket = await connectLoopback(request, { kernel: this.#kernel }, limit.signal).catch((error: unknown) => {
      if (limit.signal.aborted) throw error
      throw new CodedError(errorCode(error), `${what}: ${errorMessage(error)}`, { cause: error })
    })
    try {
      // It may have been stopped meanwhile, with all connections that there were.
      requireReady(sandbox.view, what)
    } catch (error) {
      socket.destroy()
      throw error
    }
    this.#keep(id, socket)
    return socket
  }

  /** Ends all connections to a pod. */
  end(sandboxId: string): void {
    for (const socket of this.#open.get(sandboxId) ?? []) socket.destroy()
  }

  #keep(sandboxId: string, socket: Socket): void {
    const sockets = this.#open.get(sandboxId) ?? new Set()
    this.#open.set(sandboxId, sockets.add(socket))
    socket.once('close', () => {
      sockets.delete(socket)
      if (sockets.size === 0) this.#open.delete(sandboxId)
    })
  }
}

function requireReady({ state, quarantined }: SandboxView, what: string): void {
  if (state === 'RUNNING' && quarantined === '') return
  throw new CodedError('FailedPrecondition', `${what}: it is not ready`)
}
