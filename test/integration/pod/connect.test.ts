import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import type { Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import { Kernel } from '../../../src/host/kernel/kernel.ts'
import { Connections } from '../../../src/sandbox/connections.ts'
import type { SandboxView } from '../../../src/sandbox/types.ts'
import { sharedDaemon } from '../../support/daemon.ts'
import { FakeSandboxes } from '../../support/fake-sandboxes.ts'
import { eventually, inside } from '../../support/pod-facts.ts'
import { PodServer } from '../../support/pod-server.ts'
import { linuxWith } from '../../support/user-namespaces.ts'

const MIB = 1024 * 1024
const daemon = sharedDaemon()
const kernel = new Kernel({ timeoutMs: 10_000 })
const connections = new Connections({ timeoutMs: 10_000 }, { kernel })
const never = new AbortController().signal
let netns = ''

/** What the manager would know of the pod. */
function sandbox(changes: Partial<SandboxView> = {}): { view: SandboxView } {
  const fake = new FakeSandboxes().add()
  return { view: { ...fake, metadata: { ...fake.metadata, netnsPath: netns }, ...changes } }
}

function openFiles(): number {
  return readdirSync('/proc/self/fd').length
}

/** Sends all of it, and returns what comes back. */
async function echoed(socket: Socket, data: Buffer): Promise<Buffer> {
  const answer = buffer(socket)
  socket.end(data)
  return answer
}

async function runPod(part = {}): Promise<void> {
  netns = (await daemon().client.info(await daemon().run(daemon().pod(part), 'crun-pinned'))).netnsPath
}

beforeAll(() => kernel.warmUp())
afterAll(async () => kernel[Symbol.asyncDispose]())

describe('a connection to a port of a pod', () => {
  it.each(['127.0.0.1', '::1'])('reaches a server that listens on %s only', async (host) => {
    await runPod()
    await using server = await PodServer.start(netns, host)
    const socket = await connections.connect(sandbox(), server.port, never)
    expect(String(await echoed(socket, Buffer.from('hello')))).toBe('hello')
  })

  it('reaches a pod in a user namespace', async () => {
    await runPod({ linux: linuxWith(daemon()) })
    await using server = await PodServer.start(netns, '::')
    const socket = await connections.connect(sandbox(), server.port, never)
    expect(String(await echoed(socket, Buffer.from('hello')))).toBe('hello')
  })

  it('reaches a server on the node for a pod that shares its network', async () => {
    await using server = await PodServer.start(null, '127.0.0.1')
    const { metadata } = sandbox().view
    const host = sandbox({ metadata: { ...metadata, netMode: 'host', netnsPath: '' } })
    const socket = await connections.connect(host, server.port, never)
    expect(String(await echoed(socket, Buffer.from('hello')))).toBe('hello')
    await runPod()
    // The same port in another network is another one.
    await expect(connections.connect(sandbox(), server.port, never)).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('carries 50 MiB each way unchanged', async () => {
    await runPod()
    await using server = await PodServer.start(netns, '127.0.0.1')
    const data = randomBytes(50 * MIB)
    const answer = await echoed(await connections.connect(sandbox(), server.port, never), data)
    expect(createHash('sha256').update(answer).digest('hex')).toBe(createHash('sha256').update(data).digest('hex'))
  })

  it('is refused where nobody listens, with what the kernel said, and leaves no descriptor', async () => {
    await runPod()
    const connect = connections.connect(sandbox(), 81, never)
    await expect(connect).rejects.toMatchObject({
      code: 'Unavailable',
      message: expect.stringMatching(
        /port 81 of pod sandbox 0+1: .*ECONNREFUSED 127\.0\.0\.1:81, .*ECONNREFUSED ::1:81$/,
      ) as string,
    })
    const before = openFiles()
    for (let i = 0; i < 10; i++) {
      const many = Array.from({ length: 50 }, () =>
        connections.connect(sandbox(), 81, new AbortController().signal).catch(() => undefined),
      )
      await Promise.all(many)
    }
    expect(
      await eventually(
        async () => openFiles(),
        (count) => count <= before,
      ),
    ).toBeLessThanOrEqual(before)
  })

  it('is not made to a port of its own where the kernel would connect a socket to itself', async () => {
    await runPod()
    const range = 'echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range'
    await inside([`--net=${netns}`], 'sh', '-c', range)
    for (let i = 0; i < 20; i++) {
      await expect(connections.connect(sandbox(), 40_000 + (i % 2), never)).rejects.toMatchObject({
        code: 'Unavailable',
      })
    }
  })

  it('is given up when nobody answers: by its caller, or when its time is over', async () => {
    await runPod()
    await using server = await PodServer.start(netns, '127.0.0.1', 1)
    server.stall()
    const before = openFiles()
    const caller = new AbortController()
    const queued: Socket[] = []
    const all = Array.from({ length: 5 }, async () => {
      queued.push(await connections.connect(sandbox(), server.port, caller.signal))
    })
    await eventually(
      async () => queued.length,
      (count) => count === 2,
    )
    caller.abort(new CodedError('Canceled', 'the client has gone'))
    const ends = await Promise.allSettled(all)
    const failed = ends.filter((end) => end.status === 'rejected')
    expect(failed.length).toBeGreaterThan(0)
    for (const { reason } of failed) expect(reason).toMatchObject({ code: 'Canceled' })
    const hasty = new Connections({ timeoutMs: 100 }, { kernel })
    await expect(hasty.connect(sandbox(), server.port, never)).rejects.toMatchObject({ code: 'DeadlineExceeded' })
    for (const socket of queued) socket.destroy()
    expect(
      await eventually(
        async () => openFiles(),
        (count) => count <= before,
      ),
    ).toBeLessThanOrEqual(before)
    // The thread is free, and at home.
    expect((await connections.connect(sandbox(), 81, never).catch((error: unknown) => error)) as Error).toMatchObject({
      code: 'Unavailable',
    })
  })

  it('is not made, and leaves no descriptor, for a caller that has gone before the socket comes', async () => {
    await runPod()
    const before = openFiles()
    const ends = Array.from({ length: 20 }, async () => {
      const caller = new AbortController()
      const connect = connections.connect(sandbox(), 81, caller.signal)
      caller.abort(new CodedError('Canceled', 'the client has gone'))
      await expect(connect).rejects.toMatchObject({ code: 'Canceled' })
    })
    await Promise.all(ends)
    expect(
      await eventually(
        async () => openFiles(),
        (count) => count <= before,
      ),
    ).toBeLessThanOrEqual(before)
  })

  it('is not made to a pod that is not ready, or was stopped meanwhile', async () => {
    await runPod()
    const stopped = connections.connect(sandbox({ state: 'STOPPED' }), 81, never)
    await expect(stopped).rejects.toMatchObject({ code: 'FailedPrecondition' })
    const odd = connections.connect(sandbox({ quarantined: 'checkpoint does not verify' }), 81, never)
    await expect(odd).rejects.toMatchObject({ code: 'FailedPrecondition' })
    await using server = await PodServer.start(netns, '127.0.0.1')
    const changing = sandbox()
    const before = openFiles()
    const late = connections.connect(changing, server.port, never)
    changing.view = { ...changing.view, state: 'STOPPED' }
    await expect(late).rejects.toMatchObject({ code: 'FailedPrecondition' })
    expect(
      await eventually(
        async () => openFiles(),
        (count) => count <= before,
      ),
    ).toBeLessThanOrEqual(before)
  })

  it('ends with its pod', async () => {
    await runPod()
    await using server = await PodServer.start(netns, '127.0.0.1')
    const socket = await connections.connect(sandbox(), server.port, never)
    const closed = once(socket, 'close')
    connections.end(sandbox().view.metadata.id)
    await closed
  })

  it('says so when the network of the pod is gone', async () => {
    netns = '/run/netns/there-is-none'
    await expect(connections.connect(sandbox(), 80, never)).rejects.toMatchObject({
      code: 'Unavailable',
      message: expect.stringContaining('ENOENT') as string,
    })
  })
})
