import type { Socket } from 'node:net'

/**
 * Connections that have not become sessions. With too many of them the oldest has to go: those who open connections and say
 * nothing cannot keep out a client that says at once what it wants.
 */
export class PendingConnections {
  readonly #max: number
  /** By their peer, since a TLS connection is another object than the one below it. The oldest first. */
  readonly #sockets = new Map<string, Socket>()

  constructor(max: number) {
    this.#max = max
  }

  add(socket: Socket): void {
    const peer = peerOf(socket)
    const [oldest] = this.#sockets.values()
    if (this.#sockets.size >= this.#max) oldest?.destroy()
    this.#sockets.set(peer, socket)
    socket.once('close', () => {
      if (this.#sockets.get(peer) === socket) this.#sockets.delete(peer)
    })
  }

  /** The connection has become a session. */
  delete(socket: Socket): void {
    this.#sockets.delete(peerOf(socket))
  }

  destroyAll(): void {
    for (const socket of this.#sockets.values()) socket.destroy()
  }
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}
