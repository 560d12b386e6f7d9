import { closeSync, constants, existsSync, openSync } from 'node:fs'
import { mkdir, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { loadLibc, MNT_DETACH } from '../../../src/host/libc.ts'
import { parseLog, text } from '../../support/container-log.ts'
import { fill } from '../../support/full-disk.ts'
import { findShim } from '../../support/peers.ts'
import { RUNTIMES } from './bench.ts'
import { TaskBench, type TestTask } from './task-bench.ts'

const shim = findShim()

async function printed({ io }: TestTask, stream: 'stdout' | 'stderr' = 'stdout'): Promise<string> {
  return text(parseLog(await readFile(io.logPath, 'utf8')), stream)
}

describe.skipIf(!shim).each(RUNTIMES)('containers at the shim, with %s', (runtime) => {
  let bench: TaskBench

  beforeAll(async () => {
    bench = await TaskBench.make(shim ?? '', runtime)
  })
  afterEach(async () => bench.clear())
  afterAll(async () => bench[Symbol.asyncDispose]())

  it('runs one to its end, with all that it printed in the log by then', async () => {
    const script = 'echo one; echo two >&2; printf three; exit 7'
    const task = await bench.created({ args: ['sh', '-c', script] })
    expect(task.process.startTime).not.toBe('')
    expect(await bench.executor.isAlive(task.record, task.process, bench.signal)).toBe(true)
    expect(await bench.executor.startedAtNs(task.record, task.process, bench.signal)).toBeNull()
    await bench.executor.start(task.record, bench.signal)
    expect(await bench.executor.wait(task.record, task.process, bench.signal)).toMatchObject({
      code: 7,
      reason: 'Exited',
    })
    expect(await printed(task)).toBe('one\nthree')
    expect(await printed(task, 'stderr')).toBe('two\n')
    expect(await bench.executor.exitStatus(task.record, bench.signal)).toMatchObject({ code: 7 })
    expect(await bench.executor.isAlive(task.record, task.process, bench.signal)).toBe(false)
    expect(await bench.executor.findProcess(task.record, bench.signal)).toBeNull()
  })

  it('has a large output in the log as a whole', async () => {
    const task = await bench.started({ args: ['sh', '-c', 'yes 0123456789abcdef | head -c 5000000'] })
    expect(await bench.exitCode(task)).toBe(0)
    const all = await printed(task)
    expect(all.length).toBe(5_000_000)
    expect(all).toBe('0123456789abcdef\n'.repeat(300_000).slice(0, 5_000_000))
  })

  it('signals, kills and deletes one, any number of times', async () => {
    const task = await bench.started({ args: ['sh', '-c', 'trap "exit 3" USR1; while :; do sleep 0.05; done'] })
    await sleep(200)
    await bench.executor.kill(task.record, task.process, 'SIGUSR1', bench.signal)
    expect(await bench.exitCode(task)).toBe(3)
    await bench.executor.kill(task.record, task.process, 'SIGTERM', bench.signal)
    const other = await bench.started()
    await bench.executor.killAll(other.record, bench.signal)
    await bench.executor.killAll(other.record, bench.signal)
    expect(await bench.exitCode(other)).toBe(137)
    expect(await bench.executor.oomKilled(other.record, { code: 137, atNs: 0n, reason: 'Exited' }, bench.signal)).toBe(
      false,
    )
    await bench.executor.delete(other.record, bench.signal)
    await bench.executor.delete(other.record, bench.signal)
  })

  it('says what the runtime said of one that cannot be made', async () => {
    await expect(bench.created({ args: ['/no/such'] })).rejects.toMatchObject({
      code: 'Internal',
      message: expect.stringMatching(/create container .*no such file or directory/i) as string,
    })
  })

  it('goes on with the log after a restart, and knows an end that nobody has seen', async () => {
    const script = 'i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; sleep 0.05; done; exit 9'
    const task = await bench.started({ args: ['sh', '-c', script] })
    await sleep(500)
    await bench.away([task], () => sleep(500))
    expect(await bench.executor.findProcess(task.record, bench.signal)).toEqual(task.process)
    expect(await bench.exitCode(task)).toBe(9)
    const lines = Array.from({ length: 40 }, (_, index) => `line ${index + 1}\n`)
    expect(await printed(task)).toBe(lines.join(''))
    expect(await bench.executor.startedAtNs(task.record, task.process, bench.signal)).toBeGreaterThan(0n)
    const gone = await bench.started({ args: ['sh', '-c', 'sleep 0.3; exit 5'] })
    await bench.away([task, gone], () => sleep(800))
    expect(await bench.executor.findProcess(gone.record, bench.signal)).toBeNull()
    expect(await bench.exitCode(gone)).toBe(5)
  })

  it('tells that memory ran out', async () => {
    const memory = { limit: 16 * 1024 * 1024, swap: 16 * 1024 * 1024 }
    const args = ['sh', '-c', 'exec tail -c 100m /dev/zero']
    const task = await bench.created({ args, resources: { memory } })
    await bench.executor.start(task.record, bench.signal)
    const exit = await bench.executor.wait(task.record, task.process, bench.signal)
    expect(exit.code).toBe(137)
    expect(await bench.executor.oomKilled(task.record, exit, bench.signal)).toBe(true)
  })

  it('begins the log anew when it was moved away, or is full', async () => {
    const script = 'trap "echo after" USR1; echo before; while :; do sleep 0.05; done'
    const task = await bench.started({ args: ['sh', '-c', script] })
    await expect.poll(() => printed(task)).toBe('before\n')
    await rename(task.io.logPath, `${task.io.logPath}.1`)
    await bench.executor.reopenLog(task.record, task.io.logPath, bench.signal)
    await bench.executor.reopenLog(task.record, task.io.logPath, bench.signal)
    await bench.executor.kill(task.record, task.process, 'SIGUSR1', bench.signal)
    await expect.poll(() => printed(task)).toBe('after\n')
    const full = await bench.started({ args: ['sh', '-c', 'yes | head -n 1000'], io: { logMaxBytes: 4096 } })
    await bench.exitCode(full)
    const content = await readFile(full.io.logPath, 'utf8')
    expect(content.length).toBeLessThanOrEqual(4096)
    expect(content.length).toBeGreaterThan(1000)
    expect(await printed(full)).toMatch(/^(y\n)+$/)
  })

  it('changes its limits, and reads what it uses', async () => {
    const task = await bench.started()
    await bench.executor.update(task.record, { cpu: { shares: 333n } }, bench.signal)
    const stats = await bench.executor.stats(task.record, bench.signal)
    expect(Number(stats?.version === 'v1' ? stats.metrics.pids?.current : stats?.metrics.pids?.current)).toBe(1)
  })
})

describe.skipIf(!shim)('a disk', () => {
  let bench: TaskBench

  beforeAll(async () => {
    bench = await TaskBench.make(shim ?? '', RUNTIMES[0] ?? '')
  })
  afterEach(async () => bench.clear())
  afterAll(async () => bench[Symbol.asyncDispose]())

  it('that is full costs lines, and the container goes on', async () => {
    const libc = loadLibc()
    const small = join(bench.dir, 'small')
    await mkdir(small)
    libc.mount('none', small, 'tmpfs', 0, 'size=64k')
    try {
      const script =
        'trap "echo after; exit 3" USR1; echo before; i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done'
      const task = await bench.started({ args: ['sh', '-c', script], io: { logPath: join(small, 'log') } })
      await expect.poll(() => printed(task)).toContain('before\n')
      const free = fill(small)
      await sleep(3000)
      free()
      await bench.executor.kill(task.record, task.process, 'SIGUSR1', bench.signal)
      expect(await bench.exitCode(task)).toBe(3)
      const lines = (await readFile(task.io.logPath, 'utf8')).split('\n').filter((line) => line !== '')
      expect(lines.at(-1)).toMatch(/ stdout F after$/)
      await bench.executor.delete(task.record, bench.signal)
    } finally {
      libc.umount(small, MNT_DETACH)
    }
  })

  it('that is not there after a restart keeps no container waiting, and has the log when it is back', async () => {
    const [logs, away] = [join(bench.dir, 'logs'), join(bench.dir, 'logs-away')]
    const much = await bench.started({ args: ['sh', '-c', 'sleep 1; yes | head -c 300000; exit 4'] })
    const script = 'trap "echo after" USR1; echo before; while :; do sleep 0.05; done'
    const later = await bench.started({ args: ['sh', '-c', script] })
    await expect.poll(() => printed(later)).toBe('before\n')
    await bench.away([much, later], () => rename(logs, away))
    expect(await bench.exitCode(much)).toBe(4)
    await rename(away, logs)
    await bench.executor.reopenLog(later.record, later.io.logPath, bench.signal)
    await bench.executor.kill(later.record, later.process, 'SIGUSR1', bench.signal)
    await expect.poll(() => printed(later)).toBe('before\nafter\n')
  })

  it.skipIf(!existsSync('/dev/fuse'))('that hangs holds up nobody whose log is on another', async () => {
    const libc = loadLibc()
    const stuck = join(bench.dir, 'stuck')
    await mkdir(stuck)
    const script = 'while :; do echo line; sleep 0.05; done'
    libc.mount('none', stuck, 'tmpfs', 0, 'size=1m')
    const hung = await bench.started({ args: ['sh', '-c', script], io: { logPath: join(stuck, 'log') } })
    await expect.poll(() => printed(hung)).toContain('line')
    // Whoever opens anything below it waits, and so does the rotation of the log.
    const server = openSync('/dev/fuse', constants.O_RDWR)
    libc.mount('none', stuck, 'fuse', 0, `fd=${server},rootmode=40000,user_id=0,group_id=0`)
    try {
      const reopening = bench.executor.reopenLog(hung.record, hung.io.logPath, bench.signal)
      reopening.catch(() => undefined)
      const other = await bench.started({ args: ['sh', '-c', 'echo fine; exit 4'] })
      expect(await bench.exitCode(other)).toBe(4)
      expect(await printed(other)).toBe('fine\n')
    } finally {
      libc.umount(stuck, MNT_DETACH)
      closeSync(server)
      libc.umount(stuck, MNT_DETACH)
    }
    await bench.executor.delete(hung.record, bench.signal)
  })
})

describe.skipIf(!shim)('a shim that is killed', () => {
  it('ends what it ran with a status that nobody knows, and nothing of it is left', async () => {
    const bench = await TaskBench.make(shim ?? '', RUNTIMES.at(-1) ?? '')
    try {
      const [ended, running] = await Promise.all([bench.started(), bench.started()])
      const exit = bench.executor.wait(ended.record, ended.process, bench.signal)
      for (const pid of bench.shimPids) process.kill(pid, 'SIGKILL')
      expect(await bench.executor.findProcess(running.record, bench.signal)).toEqual(running.process)
      process.kill(ended.process.pid, 'SIGKILL')
      expect(await exit).toMatchObject({ code: 255, reason: 'Unknown' })
      expect(await bench.executor.isAlive(ended.record, ended.process, bench.signal)).toBe(false)
      // The other runs on.
      await expect(bench.executor.wait(running.record, running.process, bench.signal)).rejects.toMatchObject({
        code: 'Unavailable',
      })
      await bench.executor.killAll(running.record, bench.signal)
      expect(await bench.executor.isAlive(running.record, running.process, bench.signal)).toBe(false)
      for (const { record } of [ended, running]) await bench.executor.delete(record, bench.signal)
    } finally {
      await bench[Symbol.asyncDispose]()
    }
  })
})
