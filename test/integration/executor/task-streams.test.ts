import { randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { ContainerIo, ProcessStreams, StreamedExecRequest } from '../../../src/executor/types.ts'
import { commandLine } from '../../../src/host/process.ts'
import { findShim } from '../../support/peers.ts'
import { pidsNaming, RUNTIMES } from './bench.ts'
import { TaskBench, type TestTask } from './task-bench.ts'
import { upTo } from '../../support/up-to.ts'

const shim = findShim()
/** For a shim to delete a command of which something is left. */
const DELETED_MS = 15_000

let bench: TaskBench
let task: TestTask

const sh = (script: string): string[] => ['sh', '-c', script]

function left(): string[] {
  return pidsNaming('364d').map((pid) => commandLine(pid).join(' '))
}

async function exec(
  command: readonly string[],
  wish: Partial<StreamedExecRequest> = {},
  signal = bench.signal,
): Promise<ProcessStreams> {
  const request = { command, terminal: false, stdin: true, stdout: true, stderr: !wish.terminal, ...wish }
  return bench.executor.exec(task.record, request, signal)
}

async function attach(
  io: Partial<ContainerIo> = {},
  wanted: { stdin?: boolean; stdout?: boolean } = {},
): Promise<ProcessStreams> {
  const request = {
    process: task.process,
    io: { ...task.io, ...io },
    wanted: { stdin: true, stdout: true, stderr: false, ...wanted },
  }
  return bench.executor.attach(task.record, request, bench.signal)
}

async function write({ stdin }: ProcessStreams, input: string): Promise<void> {
  await new Promise((resolve) => {
    stdin?.write(input, resolve)
  })
}

describe.skipIf(!shim).each(RUNTIMES)('commands at the shim, with %s', (runtime) => {
  beforeAll(async () => {
    bench = await TaskBench.make(shim ?? '', runtime)
  })
  afterEach(async () => {
    const execs = (): string[] => readdirSync(task.record.bundleDir).filter((name) => name.startsWith('exec-'))
    await expect.poll(execs, { timeout: DELETED_MS }).toEqual([])
    await bench.clear()
    expect(left()).toEqual([])
  })
  afterAll(async () => bench[Symbol.asyncDispose]())

  it('give their exit codes and both streams, byte by byte, and no more than is wanted', async () => {
    task = await bench.started()
    const script = 'yes | head -c 300000; echo two >&2; exit 3'
    const result = await bench.exec(task, sh(script), { maxOutputBytes: 100_000 })
    expect([result.exitCode, result.stdout.length, result.stderr]).toEqual([3, 100_000, 'two\n'])
    const codes = await Promise.all(Array.from({ length: 30 }, (_, code) => bench.exec(task, sh(`exit ${code}`))))
    expect(codes.map(({ exitCode }) => exitCode)).toEqual(Array.from({ length: 30 }, (_, code) => code))
    expect((await bench.exec(task, ['env'])).stdout).toContain('KIND=test\n')
  })

  it.each([
    ['children', 'sleep 364d & sleep 364d'],
    ['an orphan in a session of its own that holds the output', '(setsid sleep 364d &) ; sleep 364d'],
    ['one that ignores signals', 'trap "" TERM INT HUP; while :; do sleep 364d; done'],
    ['one that goes on making others', 'while :; do sleep 364d & sleep 0.01; done'],
  ])('are killed with all their processes at the timeout: %s', async (_, script) => {
    task = await bench.started()
    await expect(bench.exec(task, sh(script), { timeoutMs: 700 })).rejects.toMatchObject({ code: 'DeadlineExceeded' })
    expect(left()).toEqual([])
    expect((await bench.exec(task, ['true'])).exitCode).toBe(0)
  })

  it('are not waited for when they leave something behind', async () => {
    task = await bench.started()
    const result = await bench.exec(task, sh('sleep 364d & echo gone; exit 4'), { timeoutMs: 5000 })
    expect([result.exitCode, result.stdout]).toEqual([4, 'gone\n'])
    expect(left()).toEqual(['sleep 364d'])
  })

  it('that cannot be run are refused with what the runtime says, and so are those in what has ended', async () => {
    task = await bench.started({ args: sh('sleep 1.5') })
    await expect(bench.exec(task, ['no-such'])).rejects.toMatchObject({
      code: 'Internal',
      message: expect.stringContaining('no-such') as string,
    })
    await bench.exitCode(task)
    await expect(bench.exec(task, ['true'])).rejects.toMatchObject({ code: 'FailedPrecondition' })
    await expect(exec(['true'])).rejects.toMatchObject({ code: 'FailedPrecondition' })
  })

  it('pass bytes unchanged both ways, and the end of the input', async () => {
    task = await bench.started()
    const data = randomBytes(5_000_000)
    await using streams = await exec(['cat'])
    streams.stdin?.end(data)
    const [read, code] = await Promise.all([buffer(streams.stdout as Readable), streams.ended])
    expect(code).toBe(0)
    expect(read.equals(data)).toBe(true)
    await using short = await exec(['cat'])
    short.stdin?.end('short')
    expect(await text(short.stdout as Readable)).toBe('short')
  })

  it('give a slow reader all that they have written', async () => {
    task = await bench.started()
    await using streams = await exec(sh('yes | head -c 100000; sleep 364d & exit 6'))
    expect(await streams.ended).toBe(6)
    await sleep(1500)
    expect((await text(streams.stdout as Readable)).length).toBe(100_000)
  })

  it('on a terminal have the size that is wanted, and its end is typed', async () => {
    task = await bench.started()
    await using streams = await exec(sh('while read line; do $line; done; exit 5'), { terminal: true })
    streams.resize({ width: 132, height: 43 })
    await write(streams, 'stty size\n')
    expect(await upTo(streams.stdout, /\d+ \d+\r\n/)).toContain('43 132\r\n')
    streams.stdin?.end()
    expect(await streams.ended).toBe(5)
  })

  it.each([false, true])(
    'whose client has gone are killed with all their processes (terminal: %s)',
    async (terminal) => {
      task = await bench.started()
      const client = new AbortController()
      const streams = await exec(
        sh('(setsid sleep 364d &); trap "" HUP; sleep 364d & sleep 364d'),
        { terminal },
        client.signal,
      )
      await expect.poll(() => left().length, { timeout: 5000 }).toBe(3)
      client.abort()
      await expect(streams.ended).rejects.toMatchObject({ code: 'Canceled' })
      expect(left()).toEqual([])
      await streams[Symbol.asyncDispose]()
    },
  )

  it('that a daemon has left are killed by the next', async () => {
    task = await bench.started()
    await exec(sh('setsid sleep 364d & sleep 364d'))
    await expect.poll(() => left().length, { timeout: 5000 }).toBe(2)
    await bench.restart([task])
    await bench.executor.killLeftExecs(task.record)
    expect(left()).toEqual([])
  })
})

describe.skipIf(!shim)('a client of a container at the shim', () => {
  beforeAll(async () => {
    bench = await TaskBench.make(shim ?? '', RUNTIMES.at(-1) ?? '')
  })
  afterEach(async () => bench.clear())
  afterAll(async () => bench[Symbol.asyncDispose]())

  it.each(['', undefined])('has what is printed and types what is read (log: %s)', async (logPath) => {
    const io = { stdin: true, ...(logPath === undefined ? {} : { logPath }) }
    task = await bench.started({ args: ['cat'], io })
    await using one = await attach()
    await using two = await attach({}, { stdin: false })
    await write(one, 'hello\n')
    expect(await upTo(one.stdout, /\n/)).toBe('hello\n')
    expect(await upTo(two.stdout, /\n/)).toBe('hello\n')
    await bench.executor.kill(task.record, task.process, 'SIGKILL', bench.signal)
    expect(await Promise.all([one.ended, two.ended])).toEqual([137, 137])
    expect(await text(two.stdout as Readable)).toBe('')
  })

  it('ends the input when it goes, where that is for one, also by the end of the daemon', async () => {
    const io = { stdin: true, stdinOnce: true }
    task = await bench.started({ args: sh('cat; exit 3'), io })
    const client = await attach()
    await write(client, 'last words')
    await client[Symbol.asyncDispose]()
    expect(await bench.exitCode(task)).toBe(3)
    task = await bench.started({ args: sh('cat; exit 4'), io })
    await attach()
    await bench.restart([task])
    expect(await bench.exitCode(task)).toBe(4)
  })

  it('is served by the next daemon, and the input stays open for it', async () => {
    task = await bench.started({ args: ['cat'], io: { stdin: true } })
    const first = await attach()
    await write(first, 'one\n')
    await first[Symbol.asyncDispose]()
    await bench.restart([task])
    await using second = await attach()
    await write(second, 'two\n')
    expect(await upTo(second.stdout, /two\n/)).toContain('two\n')
    expect(await bench.executor.isAlive(task.record, task.process, bench.signal)).toBe(true)
  })

  it('sees the terminal in its size', async () => {
    task = await bench.started({ args: sh('while read line; do $line; done'), io: { terminal: true, stdin: true } })
    await using client = await attach()
    client.resize({ width: 99, height: 33 })
    await write(client, 'stty size\n')
    expect(await upTo(client.stdout, /\d+ \d+\r\n/)).toContain('33 99\r\n')
  })
})
