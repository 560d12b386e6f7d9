import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { ProcessStreams, StreamedExecRequest } from '../../../src/executor/types.ts'
import { commandLine, readStat } from '../../../src/host/process.ts'
import { ExecutorBench, pidsNaming, RUNTIMES, type TestContainer } from './bench.ts'
import { upTo } from '../../support/up-to.ts'

type Wish = Partial<Omit<StreamedExecRequest, 'command'>>

const DATA_BYTES = 20 * 1024 * 1024
const TTY: Wish = { terminal: true, stderr: false }
const RAW = 'stty raw -echo; echo ready; '
let bench: ExecutorBench
let container: TestContainer

beforeAll(async () => {
  bench = await ExecutorBench.make()
})
afterEach(async () => {
  expect(readdirSync(container.record.bundleDir).filter((name) => name.startsWith('exec-'))).toEqual([])
  await bench.clear()
})
afterAll(async () => bench[Symbol.asyncDispose]())

const sh = (script: string): string[] => ['sh', '-c', script]

async function exec(command: readonly string[], wish: Wish = {}, signal = bench.signal): Promise<ProcessStreams> {
  const request = { command, terminal: false, stdin: true, stdout: true, stderr: true, ...wish }
  return bench.executor.exec(container.record, request, signal)
}

/** All that a command does that is given this to read. */
async function run(
  command: readonly string[],
  input: string | Buffer = '',
  wish: Wish = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  await using streams = await exec(command, wish)
  streams.stdin?.end(input)
  const [code, stdout, stderr] = await Promise.all([
    streams.ended,
    streams.stdout ? text(streams.stdout) : '',
    streams.stderr ? text(streams.stderr) : '',
  ])
  return { code, stdout, stderr }
}

function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex')
}

/** Without the files and programs of an exec; what has ended may still be a zombie of its parent's. */
function left(): string[] {
  return pidsNaming('365d').map((pid) => commandLine(pid).join(' '))
}

/** What must be as it was when all is over: descriptors, threads, children that are not reaped. */
function ours(): readonly [descriptors: number, threads: number, children: number] {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => readStat(Number(pid))?.parentPid === process.pid)
  return [readdirSync('/proc/self/fd').length, readdirSync('/proc/self/task').length, children.length]
}

describe.each(RUNTIMES)('ConmonExecutor.exec with %s', (runtime) => {
  it('gives the streams that are wanted, and the exit code', async () => {
    container = await bench.started(runtime)
    expect(await run(sh('echo out; echo err >&2; exit 7'))).toEqual({ code: 7, stdout: 'out\n', stderr: 'err\n' })
    expect(await run(sh('kill -KILL $$'))).toEqual({ code: 137, stdout: '', stderr: '' })
    const script = 'cat; echo out; echo err >&2; cat /proc/self/oom_score_adj; ls /proc/self/fd | tail -n1'
    const none = { stdin: false, stdout: false, stderr: false }
    expect(await run(sh('head -c 1000000 /dev/zero | tee /dev/stderr; exit 3'), '', none)).toMatchObject({ code: 3 })
    expect(await run(sh(script), '', { stdin: false, stderr: false })).toMatchObject({ stdout: 'out\n500\n3\n' })
  })

  it('passes bytes unchanged both ways, and the end of the input', async () => {
    container = await bench.started(runtime)
    const data = randomBytes(DATA_BYTES)
    await using streams = await exec(sh('cat; echo done >&2'))
    streams.stdin?.end(data)
    const [stdout, stderr] = await Promise.all([buffer(streams.stdout as Readable), text(streams.stderr as Readable)])
    expect([stdout.length, sha256(stdout), stderr, await streams.ended]).toEqual([
      data.length,
      sha256(data),
      'done\n',
      0,
    ])
  })

  it('drops the input that a command does not read', async () => {
    container = await bench.started(runtime)
    expect(await run(['head', '-c', '1'], randomBytes(DATA_BYTES))).toMatchObject({ code: 0 })
    expect(await run(['true'], randomBytes(DATA_BYTES))).toMatchObject({ code: 0, stdout: '' })
  })

  it('does not read for who does not', async () => {
    container = await bench.started(runtime)
    const before = process.memoryUsage().rss
    await using streams = await exec(sh('yes | head -c 50000000; echo end >&2'))
    await sleep(500)
    expect(process.memoryUsage().rss - before).toBeLessThan(20_000_000)
    expect((await buffer(streams.stdout as Readable)).length).toBe(50_000_000)
    expect(await text(streams.stderr as Readable)).toBe('end\n')
  })

  it('ends with the command, and gives a slow reader all that this has written', async () => {
    container = await bench.started(runtime)
    await using streams = await exec(sh('sleep 365d & yes | head -c 60000; exit 4'))
    expect(await streams.ended).toBe(4)
    await sleep(200)
    expect((await text(streams.stdout as Readable)).length).toBe(60_000)
    expect(await text(streams.stderr as Readable)).toBe('')
    expect(left()).toEqual(['sleep 365d'])
  })

  it('says what the runtime says of a program that is not there, and only to us', async () => {
    container = await bench.started(runtime)
    const why = { code: 'Internal', message: expect.stringMatching(/no-such.*not found/) as string }
    await using streams = await exec(['no-such'])
    await expect(streams.ended).rejects.toMatchObject(why)
    expect(await text(streams.stdout as Readable)).toBe('')
    expect(await text(streams.stderr as Readable)).toBe('')
    await expect(exec(['no-such'], TTY)).rejects.toMatchObject(why)
  })

  it('refuses a container that has ended', async () => {
    container = await bench.started(runtime, { args: ['true'] })
    await bench.exitCode(container)
    await using streams = await exec(['true'])
    await expect(streams.ended).rejects.toMatchObject({ code: 'FailedPrecondition' })
    await expect(exec(['true'], TTY)).rejects.toMatchObject({ code: 'FailedPrecondition' })
  })

  it.each([
    ['children', 'sleep 365d & sleep 365d', {}],
    ['an orphan in a session of its own that holds the output', '(setsid sleep 365d &) ; sleep 365d', {}],
    ['one that ignores signals', 'trap "" TERM INT HUP; while :; do sleep 365d; done', {}],
    ['children on a terminal', 'trap "" HUP; sleep 365d & sleep 365d', TTY],
    ['an orphan on a terminal in a session of its own', '(setsid sleep 365d &) ; sleep 365d', TTY],
  ])('kills all of a command whose client has gone: %s', async (_name, script, wish) => {
    container = await bench.started(runtime)
    for (const way of ['abort', 'dispose']) {
      const client = new AbortController()
      const streams = await exec(sh(`echo ready; ${script}`), wish, client.signal)
      await upTo(streams.stdout, /ready/)
      await expect.poll(() => left().length, { timeout: 5000 }).toBeGreaterThan(0)
      if (way === 'abort') client.abort()
      else await streams[Symbol.asyncDispose]()
      await expect(streams.ended).rejects.toMatchObject({ code: 'Canceled' })
      expect(left()).toEqual([])
      await streams[Symbol.asyncDispose]()
    }
    expect((await run(['true'])).code).toBe(0)
  })

  it('knows that a command has run of which the files are gone when it ends', async () => {
    container = await bench.started(runtime)
    const { bundleDir } = container.record
    await using streams = await exec(sh('sleep 0.5; exit 3'))
    const pidFile = (): string | undefined => readdirSync(bundleDir).find((name) => /^exec-\d+\.pid$/.test(name))
    await expect.poll(pidFile, { interval: 5 }).toBeDefined()
    await sleep(100)
    rmSync(join(bundleDir, pidFile() ?? expect.fail()))
    expect(await streams.ended).toBe(3)
  })

  it('leaves nothing of a container that is deleted meanwhile', async () => {
    container = await bench.started(runtime, { hostPid: true })
    const all = await Promise.allSettled(
      Array.from({ length: 20 }, async (_, index) => {
        await sleep(index * 5)
        if (index === 10) await bench.executor.delete(container.record, bench.signal)
        await using streams = await exec(sh('sleep 365d'), index % 2 === 0 ? {} : TTY)
        return await streams.ended
      }),
    )
    expect(all.filter(({ status }) => status === 'fulfilled').length).toBeLessThan(20)
    await expect.poll(() => left(), { timeout: 5000 }).toEqual([])
  })

  it('leaves nothing of many, whether they can be started or not', async () => {
    container = await bench.started(runtime)
    const round = async (count: number): Promise<void> => {
      const some = async (worker: number): Promise<void> => {
        for (let index = worker; index < count; index += 8) {
          const wish = index % 3 === 0 ? TTY : {}
          if (index % 2 === 0) expect((await run(['true'], '', wish)).code).toBe(0)
          else await expect(run(['no-such'], '', wish)).rejects.toThrow('no-such')
        }
      }
      await Promise.all(Array.from({ length: 8 }, async (_, worker) => some(worker)))
    }
    await round(16)
    await sleep(100)
    const before = ours()
    await round(160)
    await expect.poll(ours, { timeout: 5000 }).toEqual(before)
    expect(pidsNaming(`${bench.dir}/bundles/${container.record.id}/exec-`)).toEqual([])
  })

  it('keeps sessions side by side apart', async () => {
    container = await bench.started(runtime)
    const echo = async (index: number): Promise<void> => {
      const data = randomBytes(200_000)
      const isTerminal = index % 2 === 0
      await using streams = await exec(
        isTerminal ? sh(`${RAW} exec head -c ${data.length}`) : ['cat'],
        isTerminal ? TTY : {},
      )
      if (isTerminal) expect(await upTo(streams.stdout, /ready\r?\n/)).toMatch(/^ready\r?\n$/)
      streams.stdin?.end(data)
      expect(sha256(await buffer(streams.stdout as Readable))).toBe(sha256(data))
      expect(await streams.ended).toBe(0)
    }
    await Promise.all(Array.from({ length: 50 }, async (_, index) => echo(index)))
  })

  it('kills what a daemon that was killed has left', async () => {
    container = await bench.started(runtime)
    const before = bench.another()
    const request = { terminal: false, stdin: true, stdout: true, stderr: true }
    const script = 'trap "" HUP PIPE; setsid sleep 365d & sleep 365d & sleep 365d'
    for (const terminal of [false, true]) {
      const streams = await before.executor.exec(
        container.record,
        { ...request, terminal, command: sh(script) },
        bench.signal,
      )
      streams.ended.catch(() => undefined)
    }
    await expect.poll(() => left().length, { timeout: 5000 }).toBeGreaterThan(5)
    // It ends without a chance to clean up.
    await before.close()
    expect(left().length).toBeGreaterThan(0)
    await bench.executor.killLeftExecs(container.record, container.process)
    await expect.poll(left, { timeout: 5000 }).toEqual([])
    expect((await run(['true'])).code).toBe(0)
    expect(existsSync(`/proc/${container.process.pid}`)).toBe(true)
  })
})

describe.each(RUNTIMES)('ConmonExecutor.exec on a terminal with %s', (runtime) => {
  it('is the controlling terminal of the command, of the size that is wanted', async () => {
    container = await bench.started(runtime)
    await using streams = await exec(sh('tty; while read line; do $line; done'), TTY)
    expect(await upTo(streams.stdout, /\n/)).toBe('/dev/pts/0\r\n')
    streams.resize({ width: 132, height: 43 })
    streams.stdin?.write('stty size\n')
    expect(await upTo(streams.stdout, /\d+ \d+\r\n/)).toContain('43 132\r\n')
    streams.resize({ width: 70_000, height: 10 })
    streams.stdin?.write('stty size\n')
    expect(await upTo(streams.stdout, /\d+ \d+\r\n/)).toMatch(/10 \d+\r\n/)
    streams.stdin?.write('sleep 365d\n')
    await expect.poll(() => left().length, { timeout: 5000 }).toBe(1)
    streams.stdin?.write('\u0003')
    expect(await streams.ended).toBe(130)
    streams.resize({ width: 1, height: 1 })
    expect(left()).toEqual([])
  })

  it('types an end of the input where lines are read', async () => {
    container = await bench.started(runtime)
    expect(await run(['cat'], 'one\ntwo\n', TTY)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('two') as string,
    })
    expect(await run(['cat'], 'typed', TTY)).toEqual({ code: 0, stdout: 'typedtyped', stderr: '' })
    expect(await run(sh('read line; exit 5'), '', TTY)).toMatchObject({ code: 5 })
    expect((await run(['env'], '', TTY)).stdout).toContain('TERM=xterm\r\n')
  })

  it('passes bytes unchanged both ways', async () => {
    container = await bench.started(runtime)
    const data = randomBytes(DATA_BYTES)
    await using streams = await exec(sh(`${RAW} exec head -c ${data.length}`), TTY)
    expect(await upTo(streams.stdout, /ready/)).toMatch(/^ready/)
    const output = buffer(streams.stdout as Readable)
    streams.stdin?.end(data)
    const received = await output
    // The end of the line of `ready` may have come later.
    expect(sha256(received.subarray(received.length - data.length))).toBe(sha256(data))
    expect(await streams.ended).toBe(0)
  })

  it('gives all that was printed when the command ends at once', async () => {
    container = await bench.started(runtime)
    for (let round = 0; round < 20; round++) {
      const { stdout } = await run(sh('yes | head -c 30000'), '', { ...TTY, stdin: false })
      expect(stdout.replaceAll('\r', '').length).toBe(30_000)
    }
  })

  it('ends with the command, whoever has the terminal', async () => {
    container = await bench.started(runtime)
    await using streams = await exec(sh('trap "" HUP; sleep 365d & yes | head -c 9000; exit 4'), TTY)
    expect(await streams.ended).toBe(4)
    await sleep(200)
    expect((await text(streams.stdout as Readable)).replaceAll('\r', '').length).toBe(9000)
  })

  it('does not read for who does not', async () => {
    container = await bench.started(runtime)
    const before = process.memoryUsage().rss
    await using streams = await exec(sh(`${RAW} dd if=/dev/zero bs=64k count=300`), TTY)
    // Another is not held up by that.
    expect((await run(sh('echo other'), '', TTY)).stdout).toBe('other\r\n')
    await sleep(300)
    expect(process.memoryUsage().rss - before).toBeLessThan(20_000_000)
    const output = await text(streams.stdout as Readable)
    expect(output.replaceAll('\0', '').length).toBeLessThan(300)
    expect(output.split('\0').length - 1).toBe(300 * 65_536)
  })
})
