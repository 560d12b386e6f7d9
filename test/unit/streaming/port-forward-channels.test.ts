import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { describe, expect, it } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { ChannelConnection } from '../../../src/streaming/websocket/channel-connection.ts'
import { forwardChannels } from '../../../src/streaming/port-forward/channels.ts'
import { echo, FakePod } from '../../support/forwarded.ts'
import { eventually } from '../../support/pod-facts.ts'

type Codec = 'binary' | 'base64'

/** A session that is served, and a client that keeps what comes in each channel. */
class Channels implements AsyncDisposable {
  readonly client: WebSocket
  readonly served: Promise<void>
  readonly #pod: FakePod
  readonly #codec: Codec
  readonly #server: WebSocketServer
  readonly #received = new Map<number, Buffer>()

  private constructor(client: WebSocket, accepted: WebSocket, server: WebSocketServer, pod: FakePod, codec: Codec) {
    this.client = client
    this.#server = server
    this.#pod = pod
    this.#codec = codec
    client.on('message', (message: Buffer) => this.#keep(message))
    this.served = forwardChannels(new ChannelConnection(accepted, { codec, hasClose: false }), pod)
    this.served.catch(() => undefined)
  }

  static async start(ports: number[], codec: Codec = 'binary'): Promise<Channels> {
    const pod = new FakePod()
    pod.ports = ports
    await pod.serve(80, echo)
    await pod.serve(81, (socket) => socket.end('bye'))
    await pod.serve(82, (socket) => socket.resetAndDestroy())
    pod.silent.add(83)
    const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
    await once(server, 'listening')
    const accepted = once(server, 'connection') as Promise<[WebSocket]>
    const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const [socket] = await accepted
    const channels = new Channels(client, socket, server, pod, codec)
    if (client.readyState === WebSocket.CONNECTING) await once(client, 'open')
    return channels
  }

  get pod(): FakePod {
    return this.#pod
  }

  send(channel: number, text: string): void {
    if (this.#codec === 'base64') this.client.send(`${channel}${Buffer.from(text).toString('base64')}`)
    else this.client.send(Buffer.concat([Buffer.of(channel), Buffer.from(text)]))
  }

  /** What has come in a channel after its port. */
  async text(channel: number, length: number): Promise<string> {
    const all = await eventually(
      async () => this.#received.get(channel) ?? Buffer.alloc(0),
      (data) => data.length >= length + 2,
    )
    return all.toString('utf8', 2)
  }

  port(channel: number): number | undefined {
    return this.#received.get(channel)?.readUInt16LE()
  }

  #keep(message: Buffer): void {
    const channel = this.#codec === 'base64' ? Number(message.toString('latin1', 0, 1)) : (message[0] ?? -1)
    const data = this.#codec === 'base64' ? Buffer.from(message.toString('latin1', 1), 'base64') : message.subarray(1)
    this.#received.set(channel, Buffer.concat([this.#received.get(channel) ?? Buffer.alloc(0), data]))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.terminate()
    await this.served.catch(() => undefined)
    expect(this.#pod.openSockets).toBe(0)
    this.#server.close()
    for (const socket of this.#server.clients) socket.terminate()
    await this.#pod[Symbol.asyncDispose]()
  }
}

describe.each(['binary', 'base64'] as const)('port-forward over WebSocket channels (%s)', (codec) => {
  it('has a connection for each port of the URL, whose channels begin with the port', async () => {
    await using c = await Channels.start([80, 81, 80], codec)
    c.send(0, 'one')
    c.send(4, 'two')
    expect(await c.text(0, 3)).toBe('one')
    expect(await c.text(4, 3)).toBe('two')
    expect(await c.text(2, 3)).toBe('bye')
    expect([0, 1, 2, 3, 4, 5].map((channel) => c.port(channel))).toEqual([80, 80, 81, 81, 80, 80])
    expect(await c.text(1, 0)).toBe('')
  })

  it('says in the error channel what went wrong, while other ports go on', async () => {
    await using c = await Channels.start([80, 9, 82], codec)
    expect(await c.text(3, 10)).toBe('connect to port 9: connection refused')
    expect(await c.text(5, 10)).toContain('ECONNRESET')
    c.send(0, 'still here')
    expect(await c.text(0, 10)).toBe('still here')
  })
})

describe('port-forward over WebSocket channels', () => {
  it('ends the session with the last of its connections, after all that was said', async () => {
    await using c = await Channels.start([81, 9])
    const [code] = (await once(c.client, 'close')) as [number]
    expect(code).toBe(1000)
    expect([await c.text(0, 3), await c.text(3, 10)]).toEqual(['bye', 'connect to port 9: connection refused'])
    await c.served
  })

  it('drops what is sent in error channels, in channels of no port, and to connections that have ended', async () => {
    await using c = await Channels.start([80, 81])
    await c.text(2, 3)
    for (let i = 0; i < 50; i++) for (const channel of [1, 2, 3, 4, 254, 255]) c.send(channel, 'x'.repeat(16 * 1024))
    c.client.send(Buffer.alloc(0))
    c.client.send(Buffer.of(0))
    c.send(0, 'still here')
    expect(await c.text(0, 10)).toBe('still here')
  })

  it('closes everything when the client goes', async () => {
    const c = await Channels.start([80, 80, 83, 83])
    c.send(2, 'x')
    await c.text(2, 1)
    c.client.terminate()
    await c.served
    expect(c.pod.sockets.map(({ destroyed }) => destroyed)).toEqual([true, true])
    expect(c.pod.aborted).toHaveLength(2)
    await c[Symbol.asyncDispose]()
  })

  it.each([[[]], [Array.from({ length: 128 }, () => 80)]])(
    'is refused for no port, and for too many',
    async (ports) => {
      await using c = await Channels.start(ports)
      await expect(c.served).rejects.toMatchObject({ code: 'InvalidArgument' })
    },
  )

  it('serves as many ports as there are channels for', async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error): number => warnings.push(warning)
    process.on('warning', onWarning)
    await using c = await Channels.start(Array.from({ length: 127 }, () => 80))
    c.send(252, 'last')
    expect(await c.text(252, 4)).toBe('last')
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
  })
})
