import type { Socket } from 'node:net'
import { finished } from 'node:stream/promises'
import { aborted } from '../../core/deadline.ts'
import { errorMessage } from '../../core/errors.ts'
import type { PortForward } from '../carrier.ts'
import { closedSignal } from './closed-signal.ts'
import { endWith, type StreamPair, StreamPairs } from './pairs.ts'
import type { SpdySession, SpdyStream } from '../spdy/types.ts'

/**
 * Serves `portforward.k8s.io` over SPDY until the session ends: for every pair of streams that the client opens, one connection
 * to the port that the pair names. As with the kubelet's server, that may be another one than the URL was asked for.
 *
 * What keeps a connection from being made is told as text on its error stream. One that breaks off later is reset without
 * any: clients of Kubernetes take a text for the end of the whole session. What goes wrong with one connection concerns its
 * own streams only. Whoever calls this sees to idle sessions and pings, and destroys the session afterwards.
 */
export async function forwardStreams(session: SpdySession, forward: PortForward): Promise<void> {
  const running = new Set<Promise<void>>()
  const pairs = new StreamPairs(forward, (pair) => {
    const run = serve(pair, forward).finally(() => running.delete(run))
    running.add(run)
  })
  session.onStream((stream) => pairs.add(stream))
  await aborted(session.signal)
  pairs[Symbol.dispose]()
  await Promise.all(running)
}

/** Fails never: its streams say what went wrong. */
async function serve({ data, error: errors, port }: StreamPair, forward: PortForward): Promise<void> {
  let failure = ''
  try {
    const socket = await forward.connect(port, closedSignal(data))
    await relay(data, socket).catch((error: unknown) => {
      forward.logger.debug({ port, error: errorMessage(error) }, 'forwarded connection broke off')
    })
  } catch (error) {
    failure = errorMessage(error)
    forward.logger.debug({ port, error: failure }, 'port cannot be forwarded')
    data.destroy()
  }
  endWith(errors, failure)
}

/** Both directions, each to its own end. @throws when the connection broke off; both sides are closed in any case. */
async function relay(data: SpdyStream, socket: Socket): Promise<void> {
  try {
    const ended = Promise.all([finished(data), finished(socket)])
    data.pipe(socket)
    socket.pipe(data)
    await ended
  } finally {
    socket.destroy()
    data.destroy()
  }
}
