import { describe, expect, it } from 'vitest'
import { errnoOf } from '../../../src/core/errors.ts'
import { loadLibc } from '../../../src/host/libc.ts'
import { ExecError, type RunProgram } from '../../../src/host/programs/outcome.ts'
import { Programs } from '../../../src/host/programs/programs.ts'
import { run } from '../../../src/host/programs/run.ts'
import { spawnRun } from '../../../src/host/programs/spawn-run.ts'

const libc = loadLibc()
const programs = new Programs()
// Whoever runs the tests may have left something open.
libc.closeOnExecFrom(3)

const WAYS: readonly [string, RunProgram][] = [
  ['run', run],
  ['spawnRun', (file, args, options) => spawnRun(libc, file, args, options)],
  ['Programs.run', programs.run],
]

const sh = (script: string): readonly string[] => ['-c', script]

describe.each(WAYS)('%s', (_name, execute) => {
  const failure = async (...call: Parameters<RunProgram>): Promise<ExecError> => {
    const error: unknown = await execute(...call).catch((thrown: unknown) => thrown)
    if (error instanceof ExecError) return error
    throw new Error(`not an ExecError: ${String(error)}`)
  }

  it('returns what the program printed and its exit code', async () => {
    const result = await execute('/bin/sh', sh('echo out; echo err >&2; exit 3'), { timeoutMs: 5000 })
    expect(result).toEqual({ exitCode: 3, stdout: 'out\n', stderr: 'err\n' })
  })

  it('hands over the input, however long, and nothing but the environment that is given', async () => {
    const input = 'ü'.repeat(300_000)
    const { stdout } = await execute('/bin/cat', [], { input, timeoutMs: 5000 })
    expect(stdout).toBe(input)
    const { stdout: env } = await execute('/usr/bin/env', [], { env: { A: 'b c' }, timeoutMs: 5000 })
    expect(env.split('\n').filter((line) => !/^(PATH=|$)/.test(line))).toEqual(['A=b c'])
  })

  it('runs in / with no descriptor of ours', async () => {
    const { stdout } = await execute('/bin/sh', sh('pwd; ls /proc/self/fd'), { timeoutMs: 5000 })
    // The last one is that of ls itself, on the directory.
    expect(stdout.trim().split('\n')).toEqual(['/', '0', '1', '2', '3'])
  })

  it('lets a program end that does not read its input', async () => {
    const input = 'x'.repeat(1_000_000)
    expect(await execute('/bin/true', [], { input, timeoutMs: 5000 })).toMatchObject({ exitCode: 0 })
  })

  it('tells of a program that cannot be started', async () => {
    const error = await failure('/no/such/program', [], { timeoutMs: 5000 })
    expect([error.code, errnoOf(error.cause)]).toEqual(['Unavailable', 'ENOENT'])
  })

  it('tells of a program that a signal ended', async () => {
    expect(await failure('/bin/sh', sh('kill -9 $$'), { timeoutMs: 5000 })).toMatchObject({ code: 'Internal' })
  })

  it('ends the program with all its children at the deadline, also when one of them left and holds the output', async () => {
    const script = 'setsid sleep 47.11 & sleep 47.12 & echo begun; sleep 47.13'
    const error = await failure('/bin/sh', sh(script), { timeoutMs: 300 })
    expect(error.code).toBe('DeadlineExceeded')
    const { stdout } = await run(
      '/bin/sh',
      sh("ps -eo stat=,args= | grep -v '^Z' | grep -E 'sleep 47.1[23]$' || true"),
      {
        timeoutMs: 5000,
      },
    )
    expect(stdout).toBe('')
    await run('/usr/bin/pkill', ['-f', 'sleep 47.11'], { timeoutMs: 5000 })
  })

  it('ends the program when the caller gives up', async () => {
    const controller = new AbortController()
    setTimeout(() => controller.abort(new Error('enough')), 100)
    const error = await failure('/bin/sleep', ['60'], { timeoutMs: 5000, signal: controller.signal })
    expect(error.code).toBe('Canceled')
  })

  it('ends a program that prints too much', async () => {
    const error = await failure('/bin/cat', ['/dev/zero'], { timeoutMs: 5000, maxOutputBytes: 10_000 })
    expect(error.code).toBe('ResourceExhausted')
  })
})
