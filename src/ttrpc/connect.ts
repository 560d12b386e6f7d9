import { createConnection, type Socket } from 'node:net'
import { deadline, waitFor } from '../core/deadline.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import { type ConnectionOptions, SocketConnection } from './connection.ts'
import type { TtrpcCall, TtrpcConnection, TtrpcMessages } from './types.ts'

/** The line with which the other side of a hybrid vsock answers; it is short. */
const MAX_GREETING_BYTES = 256

/** Where a ttrpc server listens. */
export interface TtrpcTarget {
  /** Of a Unix socket; absolute. */
  readonly path: string
  /** For a virtual machine's hybrid vsock: the port to ask for, once connected. */
  readonly vsockPort?: number
}

/**
 * Connects to a ttrpc server. The connection is the caller's to dispose of; it does not keep the process alive.
 * @throws CodedError `Unavailable` when nobody answers there, `DeadlineExceeded`, or the reason of the signal.
 */
export async function connectTtrpc(
  target: TtrpcTarget,
  options: ConnectionOptions,
  deps: { readonly messages: TtrpcMessages },
  { timeoutMs, signal }: TtrpcCall,
): Promise<TtrpcConnection> {
  using limit = deadline(`connect to ${options.address}`, timeoutMs, signal)
  const socket = createConnection(target.path)
  socket.unref()
  try {
    await waitFor(connected(socket, target.vsockPort), limit.signal)
  } catch (cause) {
    socket.destroy()
    if (cause instanceof CodedError) throw cause
    throw new CodedError('Unavailable', `connect to ${options.address}: ${errorMessage(cause)}`, { cause })
  }
  return new SocketConnection(socket, options, deps)
}

async function connected(socket: Socket, vsockPort: number | undefined): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    // Stays: an error that comes after the connection was given up has nobody else to hear it.
    socket.on('error', reject)
  })
  if (vsockPort === undefined) return
  socket.write(`CONNECT ${vsockPort}\n`)
  const greeting = await readLine(socket)
  if (!greeting.startsWith('OK'))
    throw new Error(`port ${vsockPort} of the virtual machine answers ${JSON.stringify(greeting)}`)
}

/** Reads up to and with the end of a line, and nothing of what follows. */
async function readLine(socket: Socket): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    let line = ''
    const settle = (end: () => void): void => {
      socket.off('readable', onReadable).off('close', onClose)
      end()
    }
    const onClose = (): void => settle(() => reject(new Error('closed before it had answered')))
    const onReadable = (): void => {
      for (let byte = read(); byte !== null; byte = read()) {
        if (byte === '\n') return settle(() => resolve(line))
        line += byte
        if (line.length > MAX_GREETING_BYTES)
          return settle(() => reject(new Error('answers with a line that does not end')))
      }
    }
    const read = (): string | null => (socket.read(1) as Buffer | null)?.toString('latin1') ?? null
    socket.on('readable', onReadable).on('close', onClose)
  })
}
