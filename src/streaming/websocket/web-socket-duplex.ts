import type { Duplex } from 'node:stream'
import { createWebSocketStream, type WebSocket } from 'ws'
import { invalidField } from '../../core/errors.ts'

/**
 * The bytes of a WebSocket's binary messages, however they are cut, as what a session of another protocol runs over. With
 * backpressure both ways; a message in text ends it.
 */
export function webSocketDuplex(socket: WebSocket): Duplex {
  const duplex = createWebSocketStream(socket)
  socket.prependListener('message', (_, isBinary) => {
    if (!isBinary) duplex.destroy(invalidField('message', 'must be binary'))
  })
  return duplex
}
