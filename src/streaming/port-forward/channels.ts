import type { Readable, Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { errorMessage, invalidField } from '../../core/errors.ts'
import type { ChannelSession, PortForward } from '../carrier.ts'
import { closedSignal } from './closed-signal.ts'

/** The number of a channel is one byte, and 255 has a meaning of its own. */
const MAX_PORTS = 127

interface Channels {
  readonly port: number
  readonly input: Readable
  readonly output: Writable
  readonly errors: Writable
}

/**
 * Serves `v4.channel.k8s.io`: one connection for every port of the URL, made at once. Channels know no end: when the last of
 * the connections has ended, so does the session.
 *
 * @throws CodedError `InvalidArgument` when the URL names no port, or too many.
 */
export async function forwardChannels(session: ChannelSession, forward: PortForward): Promise<void> {
  const { ports, logger } = forward
  if (ports.length === 0) throw invalidField('port', 'must be given: channels cannot say which one they want')
  if (ports.length > MAX_PORTS) throw invalidField('port', `at most ${MAX_PORTS} ports can have channels`)
  const all = ports.map((port, i) => open(session, port, i))
  for (const { input, output, errors } of all) {
    for (const stream of [input, output, errors]) {
      stream.on('error', (error) => logger.debug({ error: errorMessage(error) }, 'channel broke off'))
    }
  }
  await Promise.all(all.map((channels) => serve(channels, forward)))
  await session.close()
}

function open(session: ChannelSession, port: number, at: number): Channels {
  const channels = {
    port,
    input: session.reader(2 * at),
    output: session.writer(2 * at),
    errors: session.writer(2 * at + 1),
  }
  const name = Buffer.alloc(2)
  name.writeUInt16LE(port)
  channels.output.write(name)
  channels.errors.write(name)
  return channels
}

/** Fails never: the error channel says what went wrong. */
async function serve({ port, input, output, errors }: Channels, forward: PortForward): Promise<void> {
  try {
    const gone = closedSignal(input)
    const socket = await forward.connect(port, gone)
    // Where the client is gone there is nothing to be written that could fail.
    if (gone.aborted) socket.destroy()
    else gone.addEventListener('abort', () => socket.destroy(), { once: true })
    try {
      // Nobody would tell the client's end: it is over when the server in the pod has ended.
      const ended = Promise.all([finished(output), finished(socket, { writable: false })])
      socket.pipe(output)
      input.pipe(socket)
      await ended
    } finally {
      socket.destroy()
      // What still comes is for nobody; unread, it would hold up the other channels.
      input.unpipe(socket).resume()
    }
  } catch (error) {
    forward.logger.debug({ port, error: errorMessage(error) }, 'forwarded port broke off')
    input.resume()
    errors.end(errorMessage(error))
    // Where it cannot be told any more, there is nobody to be told.
    await finished(errors).catch(() => undefined)
  }
}
