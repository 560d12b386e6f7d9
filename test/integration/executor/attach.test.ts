import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { rename } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { ContainerIo, ProcessStreams, StreamsWanted } from '../../../src/executor/types.ts'
import { ExecutorBench, RUNTIMES, type TestContainer } from './bench.ts'

const OUTPUT: StreamsWanted = { stdin: false, stdout: true, stderr: true }
/** Waits for SIGUSR1, so that whoever attaches first misses nothing. */
const WHEN_TOLD = 'trap go=1 USR1; while [ -z "$go" ]; do sleep 0.02; done; '
const LINE = '0123456789abcdefghijklmnopqrstuv'
const NUMBERS = 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; [ $((i % 1000)) = 0 ] && sleep 0.05; done'

let bench: ExecutorBench

beforeAll(async () => {
  bench = await ExecutorBench.make()
})
afterEach(async () => bench.clear())
afterAll(async () => bench[Symbol.asyncDispose]())

interface Wish {
  readonly script: string
  readonly terminal?: boolean
  readonly logMaxBytes?: number
  readonly logPath?: string
}

async function started(runtime: string, { script, ...io }: Wish): Promise<TestContainer> {
  const container = await bench.started(runtime, { args: ['sh', '-c', `${WHEN_TOLD}${script}`], io })
  // The shell has to get as far as its trap.
  await sleep(200)
  return container
}

async function attach(
  { record, process, logPath }: TestContainer,
  wanted: Partial<StreamsWanted> = {},
  io: { terminal?: boolean; stdin?: boolean; stdinOnce?: boolean; logPath?: string } = {},
): Promise<ProcessStreams> {
  const all = { terminal: false, stdin: false, stdinOnce: false, logPath, ...io }
  return bench.executor.attach(record, { process, io: all, wanted: { ...OUTPUT, ...wanted } }, bench.signal)
}

async function write({ stdin }: ProcessStreams, text: string): Promise<void> {
  await new Promise((resolve) => {
    stdin?.write(text, resolve)
  })
}

function* chunksOf(bytes: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

function openFiles(pid = process.pid): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

function threads(): number {
  return readdirSync('/proc/self/task').length
}

function tell(container: TestContainer): void {
  void bench.executor.kill(container.record, container.process, 'SIGUSR1')
}

async function all(stream: Readable | null): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream ?? []) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/** Of all, or of the first bytes that come, however long the stream goes on. */
async function digest(stream: Readable | null, length = Number.POSITIVE_INFINITY): Promise<string> {
  const hash = createHash('sha256')
  let count = 0
  for await (const chunk of stream ?? []) {
    hash.update(chunk as Buffer)
    count += (chunk as Buffer).length
    if (count >= length) break
  }
  return `${count} ${hash.digest('hex')}`
}

function digestOf(bytes: Buffer): string {
  return `${bytes.length} ${createHash('sha256').update(bytes).digest('hex')}`
}

describe.each(RUNTIMES)('the output of a container of %s, attached to', (runtime) => {
  it('comes to each client byte for byte, and ends with the exit code', async () => {
    const script = 'printf "one\\ntwo\\r\\n\\0\\377"; echo three >&2; sleep 0.1; printf "\\nend"; exit 7'
    const container = await started(runtime, { script })
    await using first = await attach(container)
    await using second = await attach(container)
    tell(container)
    for (const client of [first, second]) {
      expect((await all(client.stdout)).toString('latin1')).toBe('one\ntwo\r\n\0\xff\nend')
      expect((await all(client.stderr)).toString()).toBe('three\n')
      expect(await client.ended).toBe(7)
    }
  })

  it('is what comes from then on, of the streams that are wanted', async () => {
    const container = await bench.started(runtime, {
      args: ['sh', '-c', `echo before; ${WHEN_TOLD} echo after; echo no >&2`],
    })
    await sleep(200)
    await using client = await attach(container, { stderr: false })
    tell(container)
    expect([client.stdin, client.stderr]).toEqual([null, null])
    expect((await all(client.stdout)).toString()).toBe('after\n')
  })

  it('loses nothing of 20 MiB while the log is rotated', async () => {
    const script = `for i in 1 2 3 4 5; do yes ${LINE} | head -c 4194300; sleep 0.2; done`
    const container = await started(runtime, { script })
    const { record, logPath } = container
    await using client = await attach(container)
    const received = digest(client.stdout)
    tell(container)
    for (const round of [1, 2, 3]) {
      await sleep(130)
      await rename(logPath, `${logPath}.${round}`)
      await bench.executor.reopenLog(record, logPath, bench.signal)
    }
    const part = Buffer.from(`${LINE}\n`.repeat(128_000)).subarray(0, 4_194_300)
    expect(await received).toBe(digestOf(Buffer.concat([part, part, part, part, part])))
    expect(await client.ended).toBe(0)
  })

  it('loses nothing while conmon begins its log anew again and again', async () => {
    const container = await started(runtime, { script: NUMBERS, logMaxBytes: 100_000 })
    await using client = await attach(container)
    tell(container)
    const lines = Array.from({ length: 20_000 }, (_, index) => `line ${index + 1}\n`)
    expect((await all(client.stdout)).toString()).toBe(lines.join(''))
  })

  it('is not held up by a client that does not read', async () => {
    const container = await started(runtime, { script: `yes ${LINE} | head -c 20971520; sleep 1000` })
    await using slow = await attach(container)
    await using quick = await attach(container)
    slow.stdout?.once('readable', () => void slow.stdout?.read(1))
    const received = digest(quick.stdout, 20_971_520)
    tell(container)
    expect(await received).toBe(digestOf(Buffer.from(`${LINE}\n`.repeat(640_000)).subarray(0, 20_971_520)))
    expect(slow.stdout?.readableLength).toBeLessThan(200_000)
    await bench.executor.kill(container.record, container.process, 'SIGKILL')
    expect(await slow.ended).toBe(137)
    expect(await digest(slow.stdout)).toMatch(/^2097151[0-9] /)
  })

  it('of a container without a log comes from its monitor', async () => {
    const script = 'printf "one\\0\\377"; echo two >&2; yes | head -c 3000000; printf end; exit 3'
    const container = await started(runtime, { script, logPath: '' })
    await using first = await attach(container, {}, { logPath: '' })
    await using second = await attach(container, { stderr: false }, { logPath: '' })
    tell(container)
    const expected = digestOf(
      Buffer.concat([Buffer.from('one\0\xff', 'latin1'), Buffer.from(`${'y\n'.repeat(1_500_000)}end`)]),
    )
    const [text, ...digests] = await Promise.all([all(first.stderr), digest(first.stdout), digest(second.stdout)])
    expect([text.toString(), digests]).toEqual(['two\n', [expected, expected]])
    expect([await first.ended, second.stderr]).toEqual([3, null])
  })

  it('of a terminal is all one', async () => {
    const container = await started(runtime, { script: 'echo out; echo err >&2', terminal: true })
    await using client = await attach(container, {}, { terminal: true })
    tell(container)
    expect([(await all(client.stdout)).toString(), client.stderr]).toEqual(['out\r\nerr\r\n', null])
  })

  it('ends with an error when the streams are given up, and the container runs on', async () => {
    const container = await started(runtime, { script: 'exit 5' })
    const client = await attach(container)
    await client[Symbol.asyncDispose]()
    await expect(client.ended).rejects.toMatchObject({ code: 'Canceled' })
    expect([client.stdout?.destroyed, client.stderr?.destroyed]).toEqual([true, true])
    tell(container)
    expect(await bench.exitCode(container)).toBe(5)
    await expect(attach(container)).rejects.toMatchObject({ code: 'FailedPrecondition' })
  })
})

/** A container of which the process reads its input. */
async function reader(runtime: string, script: string, io: Partial<ContainerIo> = {}): Promise<TestContainer> {
  return bench.started(runtime, { args: ['sh', '-c', script], io: { stdin: true, ...io } })
}

const INPUT = { stdin: true }
const ONCE = { stdin: true, stdinOnce: true }

describe.each(RUNTIMES)('the input of a container of %s, attached to', (runtime) => {
  it('comes in byte for byte and goes out again, and its end is the end of the container', async () => {
    const container = await reader(runtime, 'cat; echo over >&2', ONCE)
    await using client = await attach(container, INPUT, ONCE)
    const sent = randomBytes(5 * 1024 * 1024)
    const received = [digest(client.stdout), digest(client.stderr)]
    Readable.from(chunksOf(sent, 100_000)).pipe(client.stdin ?? expect.fail())
    expect(await Promise.all(received)).toEqual([digestOf(sent), digestOf(Buffer.from('over\n'))])
    expect(await client.ended).toBe(0)
  })

  it('ends with the first client that goes, where it is for one', async () => {
    const container = await reader(runtime, 'sha256sum', ONCE)
    await using second = await attach(container, INPUT, ONCE)
    const received = all(second.stdout)
    const first = await attach(container, INPUT, ONCE)
    await write(first, 'typed')
    await first[Symbol.asyncDispose]()
    await write(second, 'dropped')
    const sum = createHash('sha256').update('typed').digest('hex')
    expect((await received).toString()).toBe(`${sum}  -\n`)
    expect(await second.ended).toBe(0)
  })

  it('has all that was typed by a client that leaves at once', async () => {
    for (const io of [INPUT, ONCE]) {
      const container = await reader(runtime, 'head -c 60000 | sha256sum', io)
      await using watching = await attach(container, {}, io)
      const received = all(watching.stdout)
      const typed = randomBytes(60_000)
      const client = await attach(container, INPUT, io)
      for (const chunk of chunksOf(typed, 10_000)) client.stdin?.write(chunk)
      await client[Symbol.asyncDispose]()
      const sum = createHash('sha256').update(typed).digest('hex')
      expect((await received).toString()).toBe(`${sum}  -\n`)
    }
  })

  it('ends with a client that never typed, where it is for one', async () => {
    const container = await reader(runtime, 'sha256sum', ONCE)
    const client = await attach(container, { stdin: true, stdout: false, stderr: false }, ONCE)
    expect([client.stdout, client.stderr]).toEqual([null, null])
    await client[Symbol.asyncDispose]()
    expect(await bench.exitCode(container)).toBe(0)
  })

  it('does not end with a client that has only watched', async () => {
    for (const logPath of [undefined, '']) {
      const io = { ...ONCE, ...(logPath === undefined ? {} : { logPath }) }
      const container = await reader(runtime, 'head -n 1', io)
      await (await attach(container, {}, io))[Symbol.asyncDispose]()
      await using client = await attach(container, INPUT, io)
      const received = all(client.stdout)
      await write(client, 'line\n')
      expect((await received).toString()).toBe('line\n')
    }
  })

  it('stays open for the next client, where it is for many', async () => {
    const container = await reader(runtime, 'head -n 3', INPUT)
    await using watching = await attach(container, {}, INPUT)
    const received = all(watching.stdout)
    for (const text of ['one\n', 'two\n']) {
      await using client = await attach(container, INPUT, INPUT)
      await write(client, text)
      client.stdin?.end()
      await once(client.stdin ?? expect.fail(), 'finish')
    }
    await sleep(100)
    await expect(bench.executor.findProcess(container.record)).resolves.not.toBeNull()
    await using last = await attach(container, INPUT, INPUT)
    await write(last, 'three\n')
    expect((await received).toString()).toBe('one\ntwo\nthree\n')
  })

  it('waits for a process that does not read, and keeps nobody else waiting', async () => {
    const container = await reader(runtime, `${WHEN_TOLD} echo still here; sha256sum`, ONCE)
    await sleep(200)
    await using typing = await attach(container, INPUT, ONCE)
    await using watching = await attach(container, {}, ONCE)
    const sent = randomBytes(4 * 1024 * 1024)
    Readable.from(chunksOf(sent, 65_536)).pipe(typing.stdin ?? expect.fail())
    await sleep(300)
    expect([typing.stdin?.writableNeedDrain, typing.stdin?.writableEnded]).toEqual([true, false])
    tell(container)
    const sum = createHash('sha256').update(sent).digest('hex')
    expect((await all(watching.stdout)).toString()).toBe(`still here\n${sum}  -\n`)
  })

  it('is none where the container has none, or the client wants none', async () => {
    const container = await reader(runtime, 'sleep 0.5; cat', { stdin: false })
    await using client = await attach(container, INPUT)
    expect([client.stdin, await client.ended]).toEqual([null, 0])
    const other = await reader(runtime, 'cat')
    await using watching = await attach(other, {}, INPUT)
    expect(watching.stdin).toBeNull()
  })

  it('is typed at a terminal, which takes on the size of the client', async () => {
    const script =
      'trap "stty size" WINCH; while :; do read -r line && echo "got $line"; [ "$line" = end ] && exit 4; done'
    const io = { terminal: true, stdin: true }
    const container = await reader(runtime, script, io)
    await using client = await attach(container, INPUT, io)
    let shown = ''
    client.stdout?.on('data', (chunk: Buffer) => {
      shown += chunk.toString()
    })
    await write(client, 'hello\n')
    await expect.poll(() => shown).toBe('hello\r\ngot hello\r\n')
    client.resize({ width: 123, height: 45 })
    client.resize({ width: 0, height: 0 })
    await expect.poll(() => shown).toMatch(/45 123\r\n$/)
    await write(client, 'end\n')
    expect(await client.ended).toBe(4)
    await expect.poll(() => client.stdout?.readableEnded).toBe(true)
    expect(shown).toMatch(/end\r\ngot end\r\n$/)
  })
})

describe.each(RUNTIMES)('a client of a container of %s', (runtime) => {
  it('is served by a daemon that has only just started', async () => {
    const container = await reader(runtime, 'cat', ONCE)
    await using earlier = await attach(container, {}, ONCE)
    const later = bench.another()
    try {
      const request = { process: container.process, io: { ...ONCE, terminal: false, logPath: container.logPath } }
      const wanted = { ...OUTPUT, stdin: true }
      await using client = await later.executor.attach(container.record, { ...request, wanted }, bench.signal)
      const received = [all(earlier.stdout), all(client.stdout)]
      client.stdin?.end('hello\n')
      expect((await Promise.all(received)).map(String)).toEqual(['hello\n', 'hello\n'])
      expect([await client.ended, await earlier.ended]).toEqual([0, 0])
    } finally {
      await later.close()
    }
  })

  it('has the last bytes when the monitor is left with input that nobody has read', async () => {
    for (const logPath of [undefined, '']) {
      const io = { ...ONCE, ...(logPath === undefined ? {} : { logPath }) }
      const container = await reader(runtime, `${WHEN_TOLD} yes ${LINE} | head -c 300000; printf end`, io)
      await sleep(200)
      await using client = await attach(container, INPUT, io)
      client.stdin?.on('error', () => undefined)
      client.stdin?.write(randomBytes(1_000_000))
      await sleep(200)
      tell(container)
      const text = (await all(client.stdout)).toString()
      expect([text.length, text.slice(-4)]).toEqual([300_003, 'tend'])
    }
  })

  it('is told of the end of a container that is killed and removed', async () => {
    for (const logPath of [undefined, '']) {
      const io = { ...INPUT, ...(logPath === undefined ? {} : { logPath }) }
      const container = await reader(runtime, 'sleep 1000', io)
      await using client = await attach(container, INPUT, io)
      const received = all(client.stdout)
      await bench.executor.delete(container.record, bench.signal)
      expect((await received).length).toBe(0)
      expect([137, 255]).toContain(await client.ended)
    }
  })

  it('that goes leaves nothing behind, however often', async () => {
    const container = await reader(runtime, 'sleep 1000', INPUT)
    const visit = async (): Promise<void> => {
      const client = await attach(container, INPUT, INPUT)
      client.stdout?.resume()
      await client[Symbol.asyncDispose]()
    }
    await visit()
    await sleep(300)
    const before = [openFiles(), threads(), openFiles(await bench.monitor(container))]
    for (let round = 0; round < 30; round++) await Promise.all(Array.from({ length: 10 }, visit))
    await expect.poll(async () => [openFiles(), threads(), openFiles(await bench.monitor(container))]).toEqual(before)
  })
})
