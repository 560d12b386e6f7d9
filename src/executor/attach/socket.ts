import type { Socket } from 'node:net'
import { join } from 'node:path'
import { deadline } from '../../core/deadline.ts'
import { errorCode } from '../../core/errors.ts'
import type { Relay } from '../../host/relay/relay.ts'
import { Packets, type SocketOutput } from './packets.ts'
import type { OutputName } from './records.ts'

const CONNECT_MS = 5000

export interface AttachSocketOptions {
  readonly bundleDir: string
  /** Whether the output comes this way; otherwise it is dropped. */
  readonly output: boolean
  /** Whether conmon ends the container's input with the first connection that ends. */
  readonly endsInput: boolean
}

/**
 * The connection of all clients of one container to conmon's attach socket. conmon keeps its end of each connection until
 * the container prints again, and ends the input with any of them: so there is one, made when it is needed.
 *
 * What is written when nobody can read it any more is dropped, as what is written to a process that does not read.
 */
export class AttachSocket {
  readonly #options: AttachSocketOptions
  readonly #relay: Pick<Relay, 'packets'>
  readonly #onGone: () => void
  readonly #outputs = new Set<ReadonlyMap<OutputName, SocketOutput>>()
  #connected: Promise<Socket> | undefined
  #isGone = false
  #isInputOver = false
  #users = 0

  constructor(
    options: AttachSocketOptions,
    deps: { readonly relay: Pick<Relay, 'packets'>; readonly onGone: () => void },
  ) {
    this.#options = options
    this.#relay = deps.relay
    this.#onGone = deps.onGone
  }

  use(): void {
    this.#users++
  }

  /** Closes the connection after the last, unless that would end the input of a container that others may write to. */
  release(): void {
    if (--this.#users > 0) return
    const connected = this.#connected
    if (connected && this.#options.endsInput) {
      connected.catch(() => this.#users === 0 && this.#go())
      return
    }
    // At once: who comes now has a connection of their own.
    this.#go()
    connected?.then(
      (socket) => socket.destroy(),
      () => undefined,
    )
  }

  /** What is printed from now on goes to these as well. @throws CodedError `Unavailable` when the monitor has ended. */
  async addOutputs(outputs: ReadonlyMap<OutputName, SocketOutput>): Promise<void> {
    await this.#connect()
    this.#outputs.add(outputs)
    if (this.#isGone) this.#endOutputs()
  }

  removeOutputs(outputs: ReadonlyMap<OutputName, SocketOutput>): void {
    this.#outputs.delete(outputs)
  }

  /** Returns when there is room for more. @throws CodedError when the monitor cannot be reached. */
  async write(chunk: Buffer): Promise<void> {
    const socket = this.#isInputOver ? null : await this.#connectIfAny()
    if (this.#isInputOver) return
    await new Promise<void>((resolve) => {
      if (socket) socket.write(chunk, () => resolve())
      else resolve()
    })
  }

  /** Ends the input of a container that has it end with its first client. @throws CodedError like {@link write}. */
  async endInput(): Promise<void> {
    if (this.#isInputOver || !this.#options.endsInput) return
    this.#isInputOver = true
    const socket = await this.#connectIfAny()
    socket?.end()
  }

  /** Null when the monitor has ended. */
  async #connectIfAny(): Promise<Socket | null> {
    try {
      return await this.#connect()
    } catch (error) {
      if (errorCode(error) === 'Unavailable') return null
      throw error
    }
  }

  async #connect(): Promise<Socket> {
    this.#connected ??= this.#open().catch((error: unknown) => {
      this.#connected = undefined
      throw error
    })
    return this.#connected
  }

  async #open(): Promise<Socket> {
    const { bundleDir, output } = this.#options
    const path = join(bundleDir, 'attach')
    using limit = deadline(`connect to ${path}`, CONNECT_MS)
    const socket = await this.#relay.packets(path, { output: output ? 'framed' : 'dropped' }, limit.signal)
    const packets = new Packets((stream, bytes) => {
      for (const outputs of this.#outputs) outputs.get(stream)?.add(bytes)
    })
    socket.on('data', (chunk: Buffer) => packets.take(chunk))
    socket.once('end', () => socket.destroy())
    socket.once('error', (error) => this.#go(error))
    socket.once('close', () => this.#go())
    return socket
  }

  #go(error?: Error): void {
    this.#isGone = true
    this.#isInputOver = true
    this.#endOutputs(error)
    this.#onGone()
  }

  #endOutputs(error?: Error): void {
    for (const output of [...this.#outputs].flatMap((outputs) => [...outputs.values()])) output.finish(error)
    this.#outputs.clear()
  }
}
