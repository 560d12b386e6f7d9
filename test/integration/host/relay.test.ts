import { execFile } from 'node:child_process'
import { closeSync, constants, fstatSync, mkdirSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import koffi from 'koffi'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AGAIN, loadDescriptors, RESET } from '../../../src/host/descriptors.ts'
import { Relay, type Terminal } from '../../../src/host/relay/relay.ts'

const descriptors = loadDescriptors()
const lib = koffi.load(null)
const unlockpt = lib.func('int unlockpt(int)')
const socket = lib.func('int socket(int, int, int)')
const bind = lib.func('int bind(int, const void *, uint32_t)')
const listen = lib.func('int listen(int, int)')
const AF_UNIX = 1
const SOCK_SEQPACKET_NONBLOCK_CLOEXEC = 5 | 0x800 | 0x80000
const signal = new AbortController().signal
let relay: Relay

beforeEach(() => {
  relay = new Relay({ descriptors })
})
afterEach(async () => relay[Symbol.asyncDispose]())

/** A terminal, and the end that a program would have. */
function openTerminal(): { terminal: Terminal; slave: number } {
  const flags = constants.O_RDWR | constants.O_NOCTTY
  const master = openSync('/dev/ptmx', flags)
  unlockpt(master)
  const slave = openSync(`/dev/pts/${descriptors.terminalNumber(master)}`, flags)
  return { terminal: relay.terminal(master), slave }
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

async function closed(socket: Socket): Promise<void> {
  if (!socket.closed) await once(socket, 'close')
}

describe('Relay.terminal', () => {
  it('gives all that was printed, and ends when nobody has the terminal', async () => {
    for (let round = 0; round < 50; round++) {
      const { terminal, slave } = openTerminal()
      writeSync(slave, 'x'.repeat(3000))
      closeSync(slave)
      expect((await buffer(terminal.socket)).length).toBe(3000)
      terminal.socket.destroy()
    }
  })

  it('ends on demand after what was printed, whoever has the terminal', async () => {
    const { terminal, slave } = openTerminal()
    writeSync(slave, 'x'.repeat(3000))
    terminal.finish()
    expect((await buffer(terminal.socket)).length).toBe(3000)
    terminal.socket.destroy()
    await closed(terminal.socket)
    await expect.poll(() => isHungUp(slave)).toBe(true)
    closeSync(slave)
  })

  it('costs nothing while nothing happens, and closes all that it had', async () => {
    const first = openTerminal()
    first.terminal.socket.destroy()
    closeSync(first.slave)
    await sleep(200)
    const before = openDescriptors()
    const all = Array.from({ length: 200 }, openTerminal)
    await sleep(100)
    const ticks = threadTicks()
    await sleep(1000)
    expect(threadTicks() - ticks).toBeLessThan(3)
    for (const { terminal, slave } of all) {
      terminal.socket.destroy()
      closeSync(slave)
    }
    await expect.poll(openDescriptors).toBeLessThanOrEqual(before)
  })
})

/** Processor time of the thread so far, in hundredths of a second. */
function threadTicks(): number {
  const ticks = readdirSync('/proc/self/task').map((task) => {
    const stat = readFileSync(`/proc/self/task/${task}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return task === String(process.pid) ? 0 : Number(fields[11]) + Number(fields[12])
  })
  return ticks.reduce((sum, each) => sum + each, 0)
}

function isHungUp(slave: number): boolean {
  try {
    writeSync(slave, 'x')
    return false
  } catch {
    return true
  }
}

describe('Relay.packets', () => {
  let dir: string
  let listener: PacketListener
  let isClosed: boolean

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'sandboxerd-relay-'))
    listener = new PacketListener(dir)
    isClosed = false
  })
  afterEach(async () => {
    if (!isClosed) listener.close()
    await rm(dir, { recursive: true })
  })

  it('sends what is written as packets that are not too long, and the end as an end', async () => {
    const socket = await relay.packets(listener.path, { output: 'dropped' }, signal)
    const server = await listener.accept()
    socket.end(Buffer.alloc(1_000_000, 'x'))
    const sizes: number[] = []
    for (let size = await server.receive(); size.length > 0; size = await server.receive()) sizes.push(size.length)
    expect(Math.max(...sizes)).toBeLessThanOrEqual(32_768)
    expect(sizes.reduce((sum, each) => sum + each, 0)).toBe(1_000_000)
    server.close()
    expect((await buffer(socket)).length).toBe(0)
    await closed(socket)
  })

  it('gives packets in frames, to the last', async () => {
    const socket = await relay.packets(listener.path, { output: 'framed' }, signal)
    const server = await listener.accept()
    const sent = Array.from({ length: 500 }, (_, index) => Buffer.alloc(1 + ((index * 17) % 8192), index % 251))
    const received = buffer(socket)
    for (const packet of sent) await server.send(packet)
    server.close()
    const frames = sent.map((packet) => {
      const header = Buffer.from([packet[0] ?? 0, 0, 0, 0, 0])
      header.writeUInt32BE(packet.length - 1, 1)
      return Buffer.concat([header, packet.subarray(1)])
    })
    expect((await received).equals(Buffer.concat(frames))).toBe(true)
    socket.destroy()
  })

  it('holds up nobody else for one that does not read, nor the one that writes to it', async () => {
    const slow = await relay.packets(listener.path, { output: 'framed' }, signal)
    const slowServer = await listener.accept()
    const dropping = await relay.packets(listener.path, { output: 'dropped' }, signal)
    const server = await listener.accept()
    let sent = 0
    for (; sent < 10_000; sent++) {
      if (slowServer.trySend(Buffer.alloc(8000))) continue
      await sleep(100)
      if (!slowServer.trySend(Buffer.alloc(8000))) break
    }
    expect(sent).toBeLessThan(10_000)
    for (let count = 0; count < 2000; count++) await server.send(Buffer.alloc(8000))
    dropping.write('x')
    expect((await server.receive()).toString()).toBe('x')
    for (const each of [slow, dropping]) each.destroy()
    expect((await slowServer.receive()).length).toBe(0)
    for (const each of [slowServer, server]) each.close()
  })

  it('says that nobody listens', async () => {
    listener.close()
    isClosed = true
    await expect(relay.packets(listener.path, { output: 'dropped' }, signal)).rejects.toMatchObject({
      code: 'Unavailable',
    })
    const missing = join(dir, 'no', 'such')
    await expect(relay.packets(missing, { output: 'dropped' }, signal)).rejects.toMatchObject({ code: 'Unavailable' })
  })
})

describe('Relay', () => {
  it('closes all sockets when it is closed, and opens none after that', async () => {
    const { terminal, slave } = openTerminal()
    await sleep(50)
    const threads = readdirSync('/proc/self/task').length
    await relay[Symbol.asyncDispose]()
    await closed(terminal.socket)
    expect(terminal.socket.errored).toMatchObject({ code: 'Unavailable' })
    expect(readdirSync('/proc/self/task').length).toBe(threads - 1)
    expect(isHungUp(slave)).toBe(true)
    closeSync(slave)
    await expect(relay.awaitTerminal('/tmp/x')).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('can be closed at any moment of the beginning of its thread', async () => {
    for (let round = 0; round < 25; round++) {
      await using starting = new Relay({ descriptors })
      const { socket } = starting.terminal(openSync('/dev/ptmx', constants.O_RDWR | constants.O_NOCTTY))
      await sleep(round * 4)
      await starting[Symbol.asyncDispose]()
      await closed(socket)
    }
  })

  it('leaves the descriptors of others alone when a connection comes after its end', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'sandboxerd-relay-'))
    let connect = (): number => AGAIN
    const closing = new Relay({ descriptors: { ...descriptors, connectPackets: () => connect() } })
    const connecting = closing.packets('/tmp/x', { output: 'dropped' }, signal)
    await sleep(50)
    await closing[Symbol.asyncDispose]()
    // They have the numbers that are free now.
    const files = Array.from({ length: 8 }, (_, index) => openSync(join(dir, String(index)), 'w+'))
    connect = () => descriptors.eventFd()
    const socket = await connecting
    await expect.poll(() => socket.closed).toBe(true)
    expect(files.map((file) => fstatSync(file).size)).toEqual(files.map(() => 0))
    for (const file of files) closeSync(file)
    await rm(dir, { recursive: true })
  })

  it('keeps no connection for which there is no pair', async () => {
    const socketPair = (): never => {
      throw new Error('EMFILE')
    }
    const connectPackets = (): number => descriptors.eventFd()
    await using full = new Relay({ descriptors: { ...descriptors, connectPackets, socketPair } })
    const before = openDescriptors()
    for (let count = 0; count < 50; count++) {
      await expect(full.packets('/tmp/x', { output: 'dropped' }, signal)).rejects.toThrow('EMFILE')
    }
    expect(openDescriptors()).toBeLessThan(before + 50)
  })

  it('does not hold up the end of the process', async () => {
    const dist = fileURLToPath(new URL('../../../dist/host', import.meta.url))
    const script = `
      import { openSync } from 'node:fs'
      const { loadDescriptors } = await import('${dist}/descriptors.js')
      const { Relay } = await import('${dist}/relay/relay.js')
      new Relay({ descriptors: loadDescriptors() }).terminal(openSync('/dev/ptmx', 2))
      setTimeout(() => process.exit(7), 200)`
    const args = ['--input-type=module', '--eval', script]
    await expect(promisify(execFile)(process.execPath, args, { timeout: 10_000 })).rejects.toMatchObject({ code: 7 })
  })
})

/** A socket as conmon has it, at a path that is too long for an address. */
class PacketListener {
  readonly path: string
  readonly #fd: number

  constructor(base: string) {
    const directory = join(base, 'd'.repeat(120))
    mkdirSync(directory)
    this.path = join(directory, 'attach')
    const directoryFd = openSync(directory, constants.O_DIRECTORY)
    const path = Buffer.from(`/proc/self/fd/${directoryFd}/attach\0`)
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), path])
    this.#fd = Number(socket(AF_UNIX, SOCK_SEQPACKET_NONBLOCK_CLOEXEC, 0))
    expect(bind(this.#fd, address, address.length)).toBe(0)
    expect(listen(this.#fd, 10)).toBe(0)
    closeSync(directoryFd)
  }

  async accept(): Promise<PacketServer> {
    return new PacketServer(await untilReady(() => descriptors.accept(this.#fd)))
  }

  close(): void {
    closeSync(this.#fd)
  }
}

class PacketServer {
  readonly #fd: number

  constructor(fd: number) {
    this.#fd = fd
  }

  /** Empty at the end, also at one that left what we had sent unread. */
  async receive(): Promise<Buffer> {
    const packet = Buffer.alloc(100_000)
    const count = await untilReady(() => {
      const received = descriptors.receive(this.#fd, packet)
      return received === RESET ? 0 : received
    })
    return packet.subarray(0, count)
  }

  async send(packet: Buffer): Promise<void> {
    await untilReady(() => descriptors.send(this.#fd, packet))
  }

  /** False: nobody reads what was sent before. */
  trySend(packet: Buffer): boolean {
    return descriptors.send(this.#fd, packet) > 0
  }

  close(): void {
    closeSync(this.#fd)
  }
}

async function untilReady(call: () => number): Promise<number> {
  for (let result = call(); ; result = call()) {
    if (result >= 0) return result
    if (result !== AGAIN) throw new Error(`errno ${-result}`)
    await sleep(1)
  }
}
