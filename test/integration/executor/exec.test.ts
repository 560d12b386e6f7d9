import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { commandLine } from '../../../src/host/process.ts'
import { ExecutorBench, pidsNaming, RUNTIMES, type TestContainer } from './bench.ts'

let bench: ExecutorBench
let container: TestContainer

beforeAll(async () => {
  bench = await ExecutorBench.make()
})
afterEach(async () => bench.clear())
afterAll(async () => bench[Symbol.asyncDispose]())

/** Without the files and programs of an exec; what has ended may still be a zombie of its parent's. */
function left(): string[] {
  return pidsNaming('365d').map((pid) => commandLine(pid).join(' '))
}

describe.each(RUNTIMES)('ConmonExecutor.execSync with %s', (runtime) => {
  it('gives the exit code and both streams, byte by byte', async () => {
    container = await bench.started(runtime)
    const script = String.raw`printf '\000\377\n'; printf no >&2; exit 7`
    const request = { command: ['sh', '-c', script], timeoutMs: 0, maxOutputBytes: 1 << 20 }
    const { exitCode, stdout, stderr } = await bench.executor.execSync(container.record, request, bench.signal)
    expect([exitCode, [...stdout], stderr.toString()]).toEqual([7, [0, 255, 10], 'no'])
    expect((await bench.exec(container, ['true'])).exitCode).toBe(0)
    expect((await bench.exec(container, ['sh', '-c', 'kill -TERM $$'])).exitCode).toBe(143)
  })

  it('runs the command as the container, with nothing of ours', async () => {
    const rlimits = [{ type: 'RLIMIT_CORE', hard: 7, soft: 7 }]
    container = await bench.started(runtime, { process: { user: { uid: 7, gid: 8, additionalGids: [9] }, rlimits } })
    expect((await bench.exec(container, ['id'])).stdout).toMatch(/uid=7 gid=8 groups=(8,)?9/)
    expect((await bench.exec(container, ['env'])).stdout).toContain('KIND=test')
    expect((await bench.exec(container, ['cat', '/proc/self/oom_score_adj'])).stdout).toBe('500\n')
    expect((await bench.exec(container, ['cat', '/proc/self/limits'])).stdout).toMatch(/Max core file size +7 +7/)
    const status = (await bench.exec(container, ['cat', '/proc/self/status'])).stdout
    expect(status).toMatch(/^NoNewPrivs:\t1$/m)
    expect((await bench.exec(container, ['ls', '/proc/self/fd'])).stdout.split('\n').length).toBeLessThanOrEqual(5)
    const files = await bench.programs.run('/bin/ls', [container.record.bundleDir], { timeoutMs: 5000 })
    expect(files.stdout).not.toContain('exec-')
  })

  it('keeps so much of either stream, and the command goes on', async () => {
    container = await bench.started(runtime)
    const script = 'head -c 3000000 /dev/zero; head -c 10 /dev/zero >&2; exit 3'
    const result = await bench.exec(container, ['sh', '-c', script], { maxOutputBytes: 100_000 })
    expect([result.exitCode, result.stdout.length, result.stderr.length]).toEqual([3, 100_000, 10])
  })

  it.each([
    ['children', 'sleep 365d & sleep 365d'],
    ['a child in a session of its own', 'setsid sleep 365d & sleep 365d'],
    ['an orphan in a session of its own that holds the output', '(setsid sleep 365d &) ; sleep 365d'],
    ['one that ignores signals', 'trap "" TERM INT HUP; while :; do sleep 365d; done'],
    ['one that goes on making others', 'while :; do sleep 365d & sleep 0.01; done'],
  ])('kills all of a command at its timeout: %s', async (_name, script) => {
    container = await bench.started(runtime)
    const started = performance.now()
    await expect(bench.exec(container, ['sh', '-c', script], { timeoutMs: 700 })).rejects.toMatchObject({
      code: 'DeadlineExceeded',
      message: expect.stringContaining('365d') as string,
    })
    expect(performance.now() - started).toBeLessThan(5000)
    expect(left()).toEqual([])
    expect((await bench.exec(container, ['true'])).exitCode).toBe(0)
  })

  it('kills all of a command whose caller has gone', async () => {
    container = await bench.started(runtime)
    const caller = new AbortController()
    const call = bench.exec(container, ['sh', '-c', 'sleep 365d & sleep 365d'], { signal: caller.signal })
    await expect.poll(() => left().length, { timeout: 5000 }).toBeGreaterThan(1)
    caller.abort()
    await expect(call).rejects.toMatchObject({ code: 'Canceled' })
    expect(left()).toEqual([])
  })

  it('does not wait for what the command leaves behind', async () => {
    container = await bench.started(runtime)
    const result = await bench.exec(container, ['sh', '-c', 'sleep 365d & echo gone; exit 4'])
    expect([result.exitCode, result.stdout]).toEqual([4, 'gone\n'])
    expect(left()).toEqual(['sleep 365d'])
  })

  it('says what the runtime says of a program that is not there', async () => {
    container = await bench.started(runtime)
    await expect(bench.exec(container, ['no-such'])).rejects.toMatchObject({
      code: 'Internal',
      message: expect.stringMatching(/no-such.*not found/) as string,
    })
  })

  it('refuses a container that has ended', async () => {
    container = await bench.started(runtime, { args: ['true'] })
    await bench.exitCode(container)
    await expect(bench.exec(container, ['true'])).rejects.toMatchObject({ code: 'FailedPrecondition' })
  })

  it('gets every exit code right, many at a time', async () => {
    container = await bench.started(runtime)
    const codes = Array.from({ length: 200 }, (_, index) => index % 250)
    const results = await Promise.all(codes.map((code) => bench.exec(container, ['sh', '-c', `exit ${code}`])))
    expect(results.map(({ exitCode }) => exitCode)).toEqual(codes)
  })
})
