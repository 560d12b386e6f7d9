import { createHash, type Hash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readlinkSync } from 'node:fs'
import { Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Kernel } from '../../src/host/kernel/kernel.ts'
import { connectLoopback } from '../../src/host/loopback.ts'
import { listPids, readStat } from '../../src/host/process.ts'
import { runOk } from '../../src/host/programs/run.ts'
import { type CrictlSession, hasCrictl, startCrictl, startCrictlOnTerminal } from '../support/crictl.ts'
import { sharedDaemon } from '../support/daemon.ts'
import { daemonFacts, processesIn, settledFacts } from '../support/daemon-facts.ts'
import { PodServer } from '../support/pod-server.ts'
import { TestPod } from '../support/test-pod.ts'

const BULK_BYTES = 100 << 20
const WAIT = { timeout: 20_000, interval: 100 }

let kernel: Kernel
beforeAll(() => {
  kernel = new Kernel({ timeoutMs: 10_000 })
})
afterAll(async () => {
  await kernel[Symbol.asyncDispose]()
})

const skip = !hasCrictl()

describe.skipIf(skip).each(['spdy', 'websocket'])('crictl over %s', (transport) => {
  const daemon = sharedDaemon()
  const via = ['--transport', transport] as const

  const exec = (options: readonly string[], id: string, ...command: readonly string[]): CrictlSession =>
    startCrictl(daemon(), 'exec', ...via, ...options, id, ...command)

  it('gets both outputs of a command, and says its exit code', async () => {
    const id = await (await TestPod.run(daemon())).start()
    await using session = exec([], id, 'sh', '-c', 'echo out; echo err >&2; exit 7')
    expect(await text(session.stdout)).toBe('out\n')
    expect(await session.ended).not.toBe(0)
    expect(session.stderr()).toMatch(/^err\n[^]*exit code 7/)
    await using good = exec([], id, 'true')
    expect(await good.ended, good.stderr()).toBe(0)
    await using missing = exec([], id, '/no/such/program')
    expect(await missing.ended).not.toBe(0)
    expect(missing.stderr()).toContain('/no/such/program')
  })

  it('passes every byte unchanged, and ends a command by the end of its input', async () => {
    const id = await (await TestPod.run(daemon())).start()
    const bytes = Buffer.concat([Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)), randomBytes(1 << 20)])
    await using session = exec(['-i'], id, 'cat')
    session.stdin.end(bytes)
    const back = await buffer(session.stdout)
    expect(await session.ended, session.stderr()).toBe(0)
    expect(back.equals(bytes)).toBe(true)
  })

  it('passes 100 MiB in and out of a command at once', async () => {
    const id = await (await TestPod.run(daemon())).start()
    await using session = exec(['-i'], id, 'cat')
    expect(await roundTrip(session.stdin, session.stdout)).toMatchObject({ isSame: true, bytes: BULK_BYTES })
    expect(await session.ended, session.stderr()).toBe(0)
  })

  it('gives a command a terminal of the size of its own', async () => {
    const id = await (await TestPod.run(daemon())).start()
    await using session = startCrictlOnTerminal(daemon(), 'exec', ...via, '-it', id, 'sh')
    const seen = follow(session.stdout)
    await resize(session, 40, 100)
    session.stdin.write('tty; echo one $((1 + 1))\n')
    await expect.poll(seen, WAIT).toMatch(/\/dev\/pts\/\d+[^]*one 2/)
    await expect.poll(() => typed(session, 'busybox stty size', seen), WAIT).toMatch(/\b40 100\b/)
    await resize(session, 50, 132)
    await expect.poll(() => typed(session, 'busybox stty size', seen), WAIT).toMatch(/\b50 132\b/)
    session.stdin.write('exit 3\n')
    expect(await session.ended).not.toBe(0)
    expect(seen()).toContain('exit code 3')
  })

  it('attaches to a container, lets go of it, and attaches again when the daemon was killed meanwhile', async () => {
    const id = await (await TestPod.run(daemon())).start({ command: ['/bin/sh'], stdin: true })
    {
      await using session = startCrictl(daemon(), 'attach', ...via, '-i', id)
      const seen = follow(session.stdout)
      await expect.poll(() => typed(session, 'echo first $((1 + 1))', seen), WAIT).toContain('first 2')
      await session.kill()
    }
    await daemon().restart()
    expect((await daemon().client.containers.status(id)).state).toBe('CONTAINER_RUNNING')
    await using session = startCrictl(daemon(), 'attach', ...via, '-i', id)
    const seen = follow(session.stdout)
    await expect.poll(() => typed(session, 'echo second $((1 + 1))', seen), WAIT).toContain('second 2')
    expect(seen()).not.toContain('first')
    session.stdin.write('exit 5\n')
    await session.ended
    await expect.poll(async () => daemon().client.containers.status(id), WAIT).toMatchObject({ exit_code: 5 })
  })

  it('attaches to the terminal of a container, and gives it its size', async () => {
    const id = await (await TestPod.run(daemon())).start({ command: ['/bin/sh'], stdin: true, tty: true })
    await using session = startCrictlOnTerminal(daemon(), 'attach', ...via, '-it', id)
    const seen = follow(session.stdout)
    await resize(session, 33, 77)
    await expect.poll(() => typed(session, 'busybox stty size', seen), WAIT).toMatch(/\b33 77\b/)
    await resize(session, 44, 88)
    await expect.poll(() => typed(session, 'busybox stty size', seen), WAIT).toMatch(/\b44 88\b/)
    session.stdin.write('exit 6\n')
    await session.ended
    await expect.poll(async () => daemon().client.containers.status(id), WAIT).toMatchObject({ exit_code: 6 })
  })

  it.each([
    ['an IPv4 address', '127.0.0.1', false],
    ['an IPv6 address', '::1', false],
    ['the node', '127.0.0.1', true],
  ])('forwards ports to servers on %s', async (_, host, onNode) => {
    const pod = onNode ? daemon().hostPod() : daemon().pod()
    const { id } = await TestPod.run(daemon(), 'crun', pod)
    const { netnsPath } = await daemon().client.info(id)
    await using server = await PodServer.start(onNode ? `/run/netns/${daemon().node}` : netnsPath, host)
    await using session = startCrictl(daemon(), 'port-forward', ...via, id, `0:${server.port}`)
    const port = await forwarded(session)
    const signal = AbortSignal.timeout(20_000)
    const to = { netns: `/run/netns/${daemon().node}`, port }
    const several = await Promise.all([1, 2, 3].map(() => connectLoopback(to, { kernel }, signal)))
    for (const [index, socket] of several.entries()) socket.end(`hello ${index}`)
    expect(await Promise.all(several.map((socket) => text(socket)))).toEqual(['hello 0', 'hello 1', 'hello 2'])
    const bulk = await connectLoopback(to, { kernel }, signal)
    expect(await roundTrip(bulk, bulk)).toMatchObject({ isSame: true, bytes: BULK_BYTES })
    // Nobody listens there: that connection ends, and no other.
    await using nobody = startCrictl(daemon(), 'port-forward', ...via, id, '0:7171')
    const dead = await connectLoopback({ ...to, port: await forwarded(nobody) }, { kernel }, signal)
    expect(await text(dead).catch(() => '')).toBe('')
    const alive = await connectLoopback(to, { kernel }, signal)
    alive.end('still there')
    expect(await text(alive)).toBe('still there')
  })

  it('leaves nothing behind when it is killed', async () => {
    const pod = await TestPod.run(daemon(), 'crun', daemon().pod())
    const id = await pod.start({ command: ['/bin/sh', '-c', 'cat; sleep 1000'], stdin: true })
    const { netnsPath } = await daemon().client.info(pod.id)
    await using server = await PodServer.start(netnsPath, '127.0.0.1')
    // What these load for good is loaded then.
    await using onTerminal = startCrictlOnTerminal(daemon(), 'exec', ...via, '-it', id, 'true')
    expect(await onTerminal.ended).toBe(0)
    await using follower = startCrictl(daemon(), 'attach', ...via, '-i', id)
    follower.stdin.write('hello\n')
    await once(follower.stdout, 'data')
    await follower.kill()
    const baseline = await processesIn(daemon(), id)
    const facts = await settledFacts(daemon())
    await using command = exec(['-i'], id, 'sh', '-c', 'sleep 1000 & cat; sleep 1000')
    await using terminal = startCrictlOnTerminal(daemon(), 'exec', ...via, '-it', id, 'sleep', '1000')
    await using attached = startCrictl(daemon(), 'attach', ...via, '-i', id)
    await using forward = startCrictl(daemon(), 'port-forward', ...via, pod.id, `0:${server.port}`)
    const to = { netns: `/run/netns/${daemon().node}`, port: await forwarded(forward) }
    const socket = await connectLoopback(to, { kernel }, AbortSignal.timeout(20_000))
    socket.on('error', () => undefined)
    socket.write('x')
    await once(socket, 'data')
    await expect.poll(() => processesIn(daemon(), id), WAIT).toHaveLength(baseline.length + 4)
    for (const session of [command, terminal, attached, forward]) await session.kill()
    socket.destroy()
    await expect.poll(() => processesIn(daemon(), id), WAIT).toEqual(baseline)
    await expect.poll(() => daemonFacts(daemon()), WAIT).toEqual(facts)
    expect((await daemon().client.containers.status(id)).state).toBe('CONTAINER_RUNNING')
  })
})

/** Sends bytes that nobody can guess, reads the answer to its end, and compares the checksums. */
async function roundTrip(
  to: NodeJS.WritableStream,
  from: NodeJS.ReadableStream,
): Promise<{ isSame: boolean; bytes: number }> {
  const [sent, received] = [createHash('sha256'), createHash('sha256')]
  let bytes = 0
  const read = async (): Promise<void> => {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      received.update(chunk)
      bytes += chunk.length
    }
  }
  await Promise.all([pipeline(Readable.from(noise(sent)), to), read()])
  return { isSame: sent.digest('hex') === received.digest('hex'), bytes }
}

function* noise(hash: Hash): Generator<Buffer> {
  for (let left = BULK_BYTES; left > 0; left -= 1 << 20) {
    const chunk = randomBytes(1 << 20)
    hash.update(chunk)
    yield chunk
  }
}

/** What has come up to now. */
function follow(stream: Readable): () => string {
  let all = ''
  stream.on('data', (data: Buffer) => {
    all += data.toString()
  })
  return () => all
}

/** Types a line, which what runs there may not read yet, and says what has come. */
function typed(session: CrictlSession, line: string, seen: () => string): string {
  session.stdin.write(`${line}\n`)
  return seen()
}

/** Gives the terminal of crictl another size, as a window does. */
async function resize({ pid }: CrictlSession, rows: number, columns: number): Promise<void> {
  const terminal = (): string => {
    const [shell] = listPids().filter((child) => readStat(child)?.parentPid === pid)
    return shell === undefined ? '' : readlinkSync(`/proc/${shell}/fd/0`)
  }
  await expect.poll(terminal, WAIT).toMatch(/^\/dev\/pts\//)
  const args = ['-F', terminal(), 'rows', String(rows), 'cols', String(columns)]
  await runOk('stty', args, { timeoutMs: 10_000 })
}

/** The local port that crictl has chosen. */
async function forwarded(session: CrictlSession): Promise<number> {
  const seen = follow(session.stdout)
  await expect.poll(() => seen() + session.stderr(), WAIT).toMatch(/Forwarding from 127\.0\.0\.1:\d+/)
  return Number(/127\.0\.0\.1:(\d+)/.exec(seen())?.[1])
}
