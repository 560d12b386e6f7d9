import { errorCode } from '../../../src/core/errors.ts'
import { readFile, rename, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { ExecutorBench, logged, readLog, RUNTIMES } from './bench.ts'

const limits = { timeoutMs: 5000 }
let bench: ExecutorBench

beforeAll(async () => {
  bench = await ExecutorBench.make()
})
afterEach(async () => bench.clear())
afterAll(async () => bench[Symbol.asyncDispose]())

describe.each(RUNTIMES)('the log of a container of %s', (runtime) => {
  it('has both streams in the format of the CRI, and what has no end of line', async () => {
    const script = 'echo one; echo two >&2; sleep 0.2; printf three'
    const container = await bench.started(runtime, { args: ['sh', '-c', script] })
    expect(await bench.exitCode(container)).toBe(0)
    const lines = await readLog(container.logPath)
    expect(lines.map(({ stream, tag, text }) => `${stream} ${tag} ${text}`).toSorted()).toEqual([
      'stderr F two',
      'stdout F one',
      'stdout P three',
    ])
    expect(await readFile(container.logPath, 'utf8')).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d std/)
  })

  it('is complete when the container ends right after the last of 50 MB', async () => {
    const script = 'yes 0123456789012345678901234567890123456789 | head -c 50000000; printf END'
    const container = await bench.started(runtime, { args: ['sh', '-c', script] })
    expect(await bench.exitCode(container)).toBe(0)
    const text = await logged(container.logPath, 'stdout')
    expect([text.length, text.slice(-5)]).toEqual([50_000_003, '67END'])
    await rm(container.logPath)
  })

  it('has what a terminal shows', async () => {
    const container = await bench.started(runtime, {
      args: ['sh', '-c', 'tty; echo to-stderr >&2'],
      io: { terminal: true },
    })
    expect(await bench.exitCode(container)).toBe(0)
    expect(await logged(container.logPath, 'stdout')).toBe('/dev/pts/0\r\nto-stderr\r\n')
  })

  it('goes on in a new file after the old one was renamed, and loses nothing', async () => {
    const script = 'i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i; sleep 0.005; done'
    const container = await bench.started(runtime, { args: ['sh', '-c', script] })
    const { record, logPath } = container
    const parts: string[] = []
    for (let round = 1; round <= 3; round++) {
      await expect.poll(async () => (await stat(logPath)).size, { timeout: 10_000 }).toBeGreaterThan(2000)
      await rename(logPath, `${logPath}.${round}`)
      await bench.executor.reopenLog(record, logPath, bench.signal)
      expect((await stat(logPath)).isFile()).toBe(true)
      parts.push(`${logPath}.${round}`)
    }
    expect(await bench.exitCode(container)).toBe(0)
    const texts = await Promise.all([...parts, logPath].map((path) => logged(path, 'stdout')))
    expect(texts.join('')).toBe(Array.from({ length: 400 }, (_, index) => `${index + 1}\n`).join(''))
  })

  it('stays what it is when nobody has renamed it', async () => {
    const container = await bench.started(runtime, { args: ['sh', '-c', 'echo one; sleep 1000'] })
    await expect.poll(() => logged(container.logPath, 'stdout'), { timeout: 5000 }).toBe('one\n')
    const { ino } = await stat(container.logPath)
    await bench.executor.reopenLog(container.record, container.logPath, bench.signal)
    expect((await stat(container.logPath)).ino).toBe(ino)
    expect(await logged(container.logPath, 'stdout')).toBe('one\n')
  })

  it('is not reopened through a link', async () => {
    const container = await bench.started(runtime)
    const { logPath } = container
    const victim = `${logPath}.victim`
    await writeFile(victim, 'keep me')
    await symlink(victim, `${logPath}.tmp`)
    await rename(logPath, `${logPath}.1`)
    await bench.executor.reopenLog(container.record, logPath, bench.signal)
    expect(await readFile(victim, 'utf8')).toBe('keep me')
    expect((await stat(logPath)).ino).not.toBe((await stat(victim)).ino)
  })

  it('may lack lines when the disk was full, and the container goes on', async () => {
    const small = `${bench.dir}/small`
    await bench.programs.runOk('/usr/bin/mkdir', ['-p', small], limits)
    await bench.programs.runOk('/usr/bin/mount', ['-t', 'tmpfs', '-o', 'size=64k', 'small', small], limits)
    try {
      const script = 'trap "echo; echo here" USR1; yes 0123 | head -c 500000; while :; do sleep 0.05; done'
      const io = { logPath: `${small}/0.log` }
      const container = await bench.started(runtime, { args: ['sh', '-c', script], io })
      await expect.poll(async () => (await stat(io.logPath)).size, { timeout: 5000 }).toBe(65_536)
      const again = async (): Promise<string> => {
        await truncate(io.logPath)
        await bench.executor.kill(container.record, container.process, 'SIGUSR1')
        await sleep(100)
        return logged(io.logPath, 'stdout')
      }
      await expect.poll(again, { timeout: 10_000 }).toMatch(/^here$/m)
    } finally {
      await bench.clear()
      await bench.programs.runOk('/usr/bin/umount', [small], limits)
    }
  })

  it('is never longer than its limit', async () => {
    const script = 'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line-$i; done'
    const container = await bench.started(runtime, { args: ['sh', '-c', script], io: { logMaxBytes: 20_000 } })
    expect(await bench.exitCode(container)).toBe(0)
    expect((await stat(container.logPath)).size).toBeLessThanOrEqual(20_000)
    expect(await logged(container.logPath, 'stdout')).toMatch(/line-3000\n$/)
  })
})

describe('a log path', () => {
  const [runtime = ''] = RUNTIMES

  it('of which the directory is missing gets one', async () => {
    const logPath = `${bench.dir}/logs/a/b/0.log`
    const container = await bench.started(runtime, { args: ['sh', '-c', 'echo hello'], io: { logPath } })
    await bench.exitCode(container)
    expect(await logged(logPath, 'stdout')).toBe('hello\n')
  })

  it('that is a link is refused, and what it leads to is not touched', async () => {
    const logPath = `${bench.dir}/logs/link.log`
    await symlink(`${bench.dir}/target`, logPath)
    await expect(bench.created(runtime, { io: { logPath } })).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: `log path ${logPath}: there is a symbolic link in place of a file`,
    })
    await expect(stat(`${bench.dir}/target`)).rejects.toThrow('ENOENT')
  })

  it('with a colon is refused: conmon would cut it', async () => {
    const logPath = `${bench.dir}/logs/a:b.log`
    await expect(bench.created(runtime, { io: { logPath } })).rejects.toMatchObject({ code: 'InvalidArgument' })
  })

  it('of a monitor that has ended is not reopened', async () => {
    const container = await bench.started(runtime, { args: ['true'] })
    await bench.exitCode(container)
    const call = (): Promise<void> => bench.executor.reopenLog(container.record, container.logPath, bench.signal)
    await expect.poll(() => call().catch((error: unknown) => errorCode(error))).toBe('FailedPrecondition')
    expect(dirname(container.logPath)).toBe(`${bench.dir}/logs`)
  })
})
