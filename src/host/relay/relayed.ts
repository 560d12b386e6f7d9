import { AGAIN, type Descriptors, RESET } from '../descriptors.ts'
import type { PacketOutput } from './relay-calls.ts'

/** What one read takes: a monitor reads no more of a packet, and drops the rest of it. */
const INPUT_BYTES = 32 * 1024
const OUTPUT_BYTES = 64 * 1024
/** Of either direction, before it is others' turn. */
const STEPS = 8
/** Of output that goes on after it was to end, so much is passed on: a terminal holds less. Or until nothing came for so long. */
const LAST_BYTES = 32 * 1024
const QUIET_MS = 50
/** Of a framed packet: its first byte, and the length of the rest. */
const HEADER_BYTES = 5
const NOTHING = new Uint8Array(0)

const input = Buffer.allocUnsafeSlow(INPUT_BYTES)
const output = Buffer.allocUnsafeSlow(OUTPUT_BYTES)

/** One of the things that the relay thread does at the same time. Nothing in it waits. */
export interface Relayed extends Disposable {
  /** Without an event it is to be called again at this time (of `performance.now`). */
  readonly dueAtMs: number | undefined
  /** When it is over. */
  readonly result: number | null
  /** Does a part of what there is to do: `again` when there may be more, `wait` until something happens. */
  step(): 'again' | 'wait' | 'over'
  /** The other end of the pair has been closed. */
  leave(): void
  finish(): void
}

/** Copies both ways between a descriptor and one end of a pair. */
abstract class Copy implements Relayed {
  readonly result = null
  protected readonly descriptors: Descriptors
  protected readonly fd: number
  readonly #peer: number
  #toPeer: Uint8Array | undefined
  #toFd: Uint8Array | undefined
  #outputEnded = false
  #inputEnded = false
  #takesInput = true
  #isLeft = false

  constructor(descriptors: Descriptors, fd: number, peer: number) {
    this.descriptors = descriptors
    this.fd = fd
    this.#peer = peer
  }

  get dueAtMs(): number | undefined {
    return undefined
  }

  step(): 'again' | 'wait' | 'over' {
    let [movesOut, movesIn] = [true, true]
    for (let count = 0; count < STEPS && (movesOut || movesIn); count++) {
      movesOut = this.#stepOut()
      movesIn = this.#stepIn()
    }
    if (movesOut || movesIn) return 'again'
    if (!this.#isLeft) return 'wait'
    if (this.#inputEnded && !this.#toFd) return 'over'
    // What was written before it was left has gone as far as somebody takes it. The rest is taken away: what is unread when
    // the end of a pair is closed makes an error of the other's.
    this.#takesInput = false
    return 'again'
  }

  leave(): void {
    this.#isLeft = true
  }

  finish(): void {}

  [Symbol.dispose](): void {}

  /** What is there to read: null at the end, a number below 0 when there is nothing now. */
  protected abstract read(): Uint8Array | number | null
  protected abstract write(data: Uint8Array): number
  /** What is to be written at the end of the input. */
  protected abstract endInput(): Uint8Array | undefined

  /** Somebody does not read what there is. */
  protected get hasPendingOutput(): boolean {
    return this.#toPeer !== undefined
  }

  #stepOut(): boolean {
    if (this.#outputEnded) return false
    const data = this.#toPeer ?? this.read()
    if (typeof data === 'number') return false
    if (data === null) {
      this.#outputEnded = true
      this.descriptors.shutdownWrite(this.#peer)
      return true
    }
    const count = data.length === 0 ? 0 : this.descriptors.write(this.#peer, data)
    // Nobody reads any more.
    if (count < 0 && count !== AGAIN) this.#outputEnded = true
    this.#toPeer = this.#outputEnded ? undefined : rest(data, Math.max(count, 0), output)
    return count >= 0
  }

  #stepIn(): boolean {
    const data = this.#toFd ?? (this.#inputEnded ? undefined : this.#readInput())
    if (!data) return false
    const count = this.#takesInput ? this.write(data) : data.length
    // Nobody takes it any more, and whoever writes shall not wait for that.
    if (count < 0 && count !== AGAIN) this.#takesInput = false
    this.#toFd = this.#takesInput ? rest(data, Math.max(count, 0), input) : undefined
    return count !== AGAIN
  }

  #readInput(): Uint8Array | undefined {
    const count = this.descriptors.read(this.#peer, input)
    if (count > 0) return input.subarray(0, count)
    if (count === AGAIN) return undefined
    this.#inputEnded = true
    return this.endInput()
  }
}

/** The master of a terminal. */
export class TerminalCopy extends Copy {
  #lastTyped: number | undefined
  /** After `finish`: what may still be read, and when that is over if nothing comes. */
  #last: { bytes: number; quietAtMs: number } | undefined

  override get dueAtMs(): number | undefined {
    return this.hasPendingOutput ? undefined : this.#last?.quietAtMs
  }

  override finish(): void {
    this.#last ??= { bytes: LAST_BYTES, quietAtMs: performance.now() + QUIET_MS }
  }

  /** EIO: nobody has the terminal any more, and everything was read. */
  protected override read(): Uint8Array | number | null {
    const last = this.#last
    if (last && last.bytes <= 0) return null
    const count = this.descriptors.read(this.fd, output)
    if (count === AGAIN) return last && performance.now() >= last.quietAtMs ? null : AGAIN
    if (count <= 0) return null
    if (last) this.#last = { bytes: last.bytes - count, quietAtMs: performance.now() + QUIET_MS }
    return output.subarray(0, count)
  }

  protected override write(data: Uint8Array): number {
    const count = this.descriptors.write(this.fd, data)
    if (count > 0) this.#lastTyped = data[count - 1]
    return count
  }

  /** At the beginning of a line one is an end; elsewhere it only hands on what there is of the line, and the second is. */
  protected override endInput(): Uint8Array | undefined {
    const end = this.descriptors.endOfFileCharacter(this.fd)
    if (end === null) return undefined
    const isNewLine = this.#lastTyped === undefined || this.#lastTyped === 10 || this.#lastTyped === 13
    return Buffer.from(isNewLine ? [end] : [end, end])
  }
}

/** A socket of packets (SOCK_SEQPACKET). */
export class PacketsCopy extends Copy {
  readonly #output: PacketOutput

  constructor(descriptors: Descriptors, fd: number, peer: number, packetOutput: PacketOutput) {
    super(descriptors, fd, peer)
    this.#output = packetOutput
  }

  protected override read(): Uint8Array | number | null {
    const place = output.subarray(HEADER_BYTES)
    let count = this.descriptors.receive(this.fd, place)
    // That what we have sent was not read when the other side closed is told before what it had sent.
    if (count === RESET) count = this.descriptors.receive(this.fd, place)
    if (count === AGAIN) return AGAIN
    if (count <= 0) return null
    if (this.#output === 'dropped') return NOTHING
    output[0] = output[HEADER_BYTES] ?? 0
    output.writeUInt32BE(count - 1, 1)
    output.copyWithin(HEADER_BYTES, HEADER_BYTES + 1, HEADER_BYTES + count)
    return output.subarray(0, HEADER_BYTES + count - 1)
  }

  protected override write(data: Uint8Array): number {
    return this.descriptors.send(this.fd, data)
  }

  protected override endInput(): undefined {
    this.descriptors.shutdownWrite(this.fd)
  }
}

/** Waits for somebody who connects and sends a descriptor. */
export class Reception implements Relayed {
  readonly dueAtMs = undefined
  readonly #descriptors: Descriptors
  readonly #fd: number
  readonly #watch: (fd: number) => void
  #connection: number | undefined
  #isLast = false
  result: number | null = null

  constructor(descriptors: Descriptors, fd: number, watch: (fd: number) => void) {
    this.#descriptors = descriptors
    this.#fd = fd
    this.#watch = watch
  }

  step(): 'wait' | 'over' {
    if (this.#connection === undefined) {
      const connection = this.#descriptors.accept(this.#fd)
      if (connection < 0) return connection === AGAIN && !this.#isLast ? 'wait' : 'over'
      this.#connection = connection
      this.#watch(connection)
    }
    const received = this.#descriptors.receiveDescriptor(this.#connection)
    if (received > 0) this.result = received
    return received === AGAIN && !this.#isLast ? 'wait' : 'over'
  }

  leave(): void {}

  finish(): void {
    this.#isLast = true
  }

  [Symbol.dispose](): void {
    if (this.#connection !== undefined) this.#descriptors.close(this.#connection)
  }
}

/** What is left of data after so many bytes; a copy, when it lies where the next will be read. */
function rest(data: Uint8Array, count: number, scratch: Uint8Array): Uint8Array | undefined {
  if (count === data.length) return undefined
  return data.buffer === scratch.buffer ? Uint8Array.from(data.subarray(count)) : data.subarray(count)
}
