import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { buffer } from 'node:stream/consumers'
import { afterAll, describe, expect, it } from 'vitest'
import { sharedDaemon } from '../../support/daemon.ts'
import { DaemonStreams } from '../../support/daemon-streams.ts'
import { eventually } from '../../support/pod-facts.ts'
import { PodServer } from '../../support/pod-server.ts'
import { type ForwardedConnection, openPortForward } from '../../support/streaming-client.ts'

const MIB = 1024 * 1024
const daemon = sharedDaemon()
const streams = new DaemonStreams(daemon)

afterAll(async () => streams[Symbol.asyncDispose]())

function openFiles(): number {
  return readdirSync(`/proc/${daemon().pid}/fd`).length
}

async function podWithNetwork(): Promise<{ id: string; netns: string }> {
  const id = await daemon().run(daemon().pod(), 'crun-pinned')
  return { id, netns: (await daemon().client.info(id)).netnsPath }
}

async function echoed({ data }: ForwardedConnection, message: Buffer): Promise<Buffer> {
  const answer = buffer(data)
  data.end(message)
  return answer
}

function sha(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex')
}

describe.each(['spdy', 'tunnel'] as const)('port-forward from a real daemon (%s)', (transport) => {
  it('carries 50 MiB each way unchanged, and many connections to several ports at once', async () => {
    const { id, netns } = await podWithNetwork()
    await using v4 = await PodServer.start(netns, '127.0.0.1')
    await using v6 = await PodServer.start(netns, '::1')
    const client = await streams.portForward(id, transport)
    expect(client.protocol).toBe('portforward.k8s.io')
    const much = randomBytes(50 * MIB)
    const large = client.connect(v4.port)
    const small = Array.from({ length: 40 }, async (_, i) => {
      const message = Buffer.from(`message ${i}`)
      const connection = client.connect(i % 2 === 0 ? v4.port : v6.port)
      expect(await echoed(connection, message)).toEqual(message)
      expect(await connection.error).toBe('')
    })
    expect(sha(await echoed(large, much))).toBe(sha(much))
    expect(await large.error).toBe('')
    await Promise.all(small)
    await client.close()
  })

  it('tells of a port where nobody listens, and of a reset, while another connection goes on', async () => {
    const { id, netns } = await podWithNetwork()
    await using server = await PodServer.start(netns, '127.0.0.1')
    const client = await streams.portForward(id, transport)
    const good = client.connect(server.port)
    good.data.write('one ')
    const refused = client.connect(81)
    expect(await refused.error).toMatch(/connect to port 81 of pod sandbox .*ECONNREFUSED/)
    const reset = client.connect(server.port)
    reset.data.write('reset me')
    await expect(buffer(reset.data)).rejects.toThrow('reset by the peer')
    expect(await reset.error).toBe('')
    good.data.end('two')
    expect((await buffer(good.data)).toString()).toBe('one two')
    await client.close()
  })

  it('leaves no descriptor of a client that vanishes', async () => {
    const { id, netns } = await podWithNetwork()
    await using server = await PodServer.start(netns, '127.0.0.1')
    const before = openFiles()
    for (let i = 0; i < 5; i++) {
      const client = await streams.portForward(id, transport)
      for (let n = 0; n < 10; n++) {
        const { data } = client.connect(server.port)
        data.write('x')
        await once(data, 'data')
        data.on('error', () => undefined)
      }
      client.destroy()
    }
    expect(
      await eventually(
        async () => openFiles(),
        (count) => count <= before,
      ),
    ).toBeLessThanOrEqual(before)
  })
})

describe('port-forward from a real daemon', () => {
  it('reaches the node for a pod that shares its network', async () => {
    const id = await daemon().run(daemon().hostPod(), 'crun-pinned')
    await using server = await PodServer.start(`/run/netns/${daemon().node}`, '127.0.0.1')
    const client = await streams.portForward(id, 'spdy')
    expect(String(await echoed(client.connect(server.port), Buffer.from('hello')))).toBe('hello')
    await client.close()
  })

  it('ends the connections of a pod that is stopped', async () => {
    const { id, netns } = await podWithNetwork()
    await using server = await PodServer.start(netns, '127.0.0.1')
    const client = await streams.portForward(id, 'spdy')
    const { data } = client.connect(server.port)
    data.write('x')
    await once(data, 'data')
    const ended = buffer(data)
    await daemon().client.stop(id)
    await expect(ended).rejects.toThrow('reset by the peer')
    expect(await client.connect(server.port).error).toContain('it is not ready')
    await client.close()
  })

  it('has the older channels, for the ports of its URL', async () => {
    const { id, netns } = await podWithNetwork()
    const server = await PodServer.start(netns, '127.0.0.1')
    const ports = [server.port, 81]
    const url = await daemon().client.streamUrls.portForward(id, ports)
    const client = await openPortForward(url, { transport: 'websocket', ports, socket: await streams.connect(url) })
    const { data, error } = client.connect(server.port)
    const refused = client.connect(81)
    data.write('hello')
    expect(String(((await once(data, 'data')) as [Buffer])[0])).toBe('hello')
    // The last connection is over, and with it the session.
    await server[Symbol.asyncDispose]()
    expect(await refused.error).toContain('ECONNREFUSED')
    expect(await error).toBe('')
    await client.close()
  })
})
