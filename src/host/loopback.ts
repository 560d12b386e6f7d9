import { once } from 'node:events'
import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import { abortReason, waitFor } from '../core/deadline.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { Kernel } from './kernel/kernel.ts'

export interface LoopbackRequest {
  /** Where the network namespace is pinned; null is the node's. */
  readonly netns: string | null
  /** 1-65535. */
  readonly port: number
}

const ADDRESSES = [
  { family: 4, host: '127.0.0.1' },
  { family: 6, host: '::1' },
] as const

/**
 * Connects to a TCP port of the loopback address in a network namespace: IPv4, and IPv6 where that fails, since a server may
 * listen on one of them only. The socket can be half-closed; whoever gets it destroys it.
 *
 * @throws CodedError `Unavailable` with what the kernel said of either address; the reason of `signal` when it aborts.
 */
export async function connectLoopback(
  request: LoopbackRequest,
  deps: { readonly kernel: Pick<Kernel, 'tcpSocket'> },
  signal: AbortSignal,
): Promise<Socket> {
  const failures: string[] = []
  for (const { family, host } of ADDRESSES) {
    try {
      const socket = request.netns === null ? adopt() : adopt(await made(deps.kernel, request.netns, family, signal))
      return await connected(socket, { host, port: request.port }, signal)
    } catch (error) {
      if (signal.aborted) throw abortReason(signal)
      failures.push(errorMessage(error))
    }
  }
  throw new CodedError('Unavailable', failures.join(', '))
}

/** A descriptor that comes when nobody waits for it any more is closed. */
async function made(
  kernel: Pick<Kernel, 'tcpSocket'>,
  netns: string,
  family: 4 | 6,
  signal: AbortSignal,
): Promise<number> {
  const descriptor = kernel.tcpSocket({ netns, family })
  try {
    return await waitFor(descriptor, signal)
  } catch (error) {
    descriptor.then(closeSync, () => undefined)
    throw error
  }
}

function adopt(fd?: number): Socket {
  if (fd === undefined) return new Socket({ allowHalfOpen: true })
  // Node.js would begin to read at once, before it is connected.
  const options = { fd, allowHalfOpen: true, manualStart: true }
  try {
    return new Socket(options)
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

async function connected(socket: Socket, to: { host: string; port: number }, signal: AbortSignal): Promise<Socket> {
  try {
    socket.connect(to)
    await once(socket, 'connect', { signal })
    // Without a listener, the kernel may choose the port itself for our end, and connect the socket to itself.
    if (socket.localPort === to.port) throw new Error(`connect ${to.host}:${to.port}: nobody listens there`)
    return socket.setNoDelay(true)
  } catch (error) {
    socket.destroy()
    throw error
  }
}
