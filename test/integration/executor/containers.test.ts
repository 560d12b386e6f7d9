import { existsSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { endsWithin } from '../../../src/executor/container-process.ts'
import { readCgroupMode } from '../../../src/host/cgroup/cgroup-mode.ts'
import { cgroupMounts } from '../../../src/host/cgroup/cgroup.ts'
import { isAlive } from '../../../src/host/process.ts'
import { ExecutorBench, logged, pidsNaming, RUNTIMES, type TestContainer } from './bench.ts'

const isV2 = readCgroupMode() === 'v2'
const hasMemory = cgroupMounts().some((mount) =>
  existsSync(join(mount, isV2 ? 'memory.stat' : 'memory.limit_in_bytes')),
)

let bench: ExecutorBench

beforeAll(async () => {
  bench = await ExecutorBench.make()
})
afterEach(async () => bench.clear())
afterAll(async () => bench[Symbol.asyncDispose]())

/** A file of the container's cgroup, in whichever hierarchy it is. */
function cgroupFile({ record }: TestContainer, name: string): string {
  const paths = cgroupMounts().map((mount) => join(mount, record.cgroupsPath, name))
  return readFileSync(paths.find((path) => existsSync(path)) ?? name, 'utf8').trim()
}

describe.each(RUNTIMES)('a container of %s', (runtime) => {
  it.each([
    ['exit 0', 0],
    ['exit 3', 3],
    ['kill -9 $$', 137],
    ['kill -15 $$', 143],
  ])('that does `%s` ends with %i', async (script, code) => {
    // As the first process of its namespace it would be immune to its own signals.
    const container = await bench.started(runtime, { args: ['sh', '-c', script], hostPid: true })
    expect(await bench.exitCode(container)).toBe(code)
    expect(await bench.executor.oomKilled(container.record, { code, atNs: 0n, reason: 'Exited' })).toBe(false)
  })

  it('has no input of ours, and no descriptors', async () => {
    const container = await bench.started(runtime, { args: ['sh', '-c', 'cat; ls /proc/self/fd'] })
    expect(await bench.exitCode(container)).toBe(0)
    // 3 is the directory that ls reads.
    expect(await logged(container.logPath, 'stdout')).toBe('0\n1\n2\n3\n')
  })

  it('that was given an input waits for it', async () => {
    const container = await bench.started(runtime, { args: ['cat'], io: { stdin: true } })
    expect(await endsWithin(container.process, container.process.bootId, 300, bench.signal)).toBe(false)
    expect(existsSync(join(container.record.bundleDir, 'attach'))).toBe(true)
  })

  it('gets signals, once each', async () => {
    const script = 'trap "echo usr" USR1; trap "exit 9" TERM; while :; do sleep 0.05; done'
    const container = await bench.started(runtime, { args: ['sh', '-c', script] })
    await sleep(300)
    await bench.executor.kill(container.record, container.process, 'SIGUSR1')
    await expect.poll(() => logged(container.logPath, 'stdout'), { timeout: 5000 }).toBe('usr\n')
    await bench.executor.kill(container.record, container.process, 'SIGTERM')
    expect(await endsWithin(container.process, container.process.bootId, 5000, bench.signal)).toBe(true)
    expect(await bench.exitCode(container)).toBe(9)
    expect(await logged(container.logPath, 'stdout')).toBe('usr\n')
    await bench.executor.kill(container.record, container.process, 'SIGTERM')
  })

  it('without a pid namespace is killed with all that it started, and nothing else', async () => {
    const script = 'setsid sleep 366d & (setsid sleep 366d &); exit 0'
    const bystander = await bench.started(runtime, { args: ['sleep', '367d'], hostPid: true })
    const container = await bench.started(runtime, { args: ['sh', '-c', script], hostPid: true })
    expect(await bench.exitCode(container)).toBe(0)
    expect(pidsNaming('366d')).toHaveLength(2)
    await bench.executor.killAll(container.record, bench.signal)
    expect(pidsNaming('366d')).toEqual([])
    expect(isAlive(bystander.process, bench.bootId)).toBe(true)
  })

  it('ends, although what it started prints for ever', async () => {
    const container = await bench.started(runtime, { args: ['sh', '-c', 'yes & sleep 0.2; exit 5'], hostPid: true })
    expect(await bench.exitCode(container)).toBe(5)
    expect(pidsNaming('yes\0')).toEqual([])
  })

  it('is removed with the cgroups that it made', async () => {
    const container = await bench.started(runtime)
    const { mkdirSync, writeFileSync } = await import('node:fs')
    for (const mount of cgroupMounts()) {
      const path = join(mount, container.record.cgroupsPath)
      if (!existsSync(path)) continue
      mkdirSync(join(path, 'inner', 'most'), { recursive: true })
      // A cpuset takes processes only when it has processors.
      if (!mount.endsWith('cpuset')) writeFileSync(join(path, 'inner', 'cgroup.procs'), String(container.process.pid))
    }
    await bench.clear()
    expect(isAlive(container.process, bench.bootId)).toBe(false)
  })

  it('takes new limits, and keeps the others', async () => {
    const container = await bench.started(runtime, { resources: { cpu: { shares: 512 } } })
    await bench.executor.update(container.record, { cpu: { quota: 50_000n, period: 100_000n } }, bench.signal)
    if (isV2) expect(cgroupFile(container, 'cpu.max')).toBe('50000 100000')
    else expect(cgroupFile(container, 'cpu.cfs_quota_us')).toBe('50000')
    if (!isV2) expect(cgroupFile(container, 'cpu.shares')).toBe('512')
    await bench.executor.update(container.record, { cpu: { quota: -1n, period: 100_000n } }, bench.signal)
    if (isV2) expect(cgroupFile(container, 'cpu.max')).toBe('max 100000')
    else expect(cgroupFile(container, 'cpu.cfs_quota_us')).toBe('-1')
  })

  it.skipIf(!hasMemory)('takes a new limit of memory, and none', async () => {
    const container = await bench.started(runtime, { resources: { memory: { limit: 64 << 20 } } })
    const limit = (): string => cgroupFile(container, isV2 ? 'memory.max' : 'memory.limit_in_bytes')
    await bench.executor.update(container.record, { memory: { limit: 128n << 20n } }, bench.signal)
    expect(limit()).toBe(String(128 << 20))
    await bench.executor.update(container.record, { memory: { limit: -1n, swap: -1n } }, bench.signal)
    expect(limit()).toBe(isV2 ? 'max' : '9223372036854771712')
  })

  it('quotes what the runtime says of limits that cannot be', async () => {
    const container = await bench.started(runtime)
    const call = bench.executor.update(container.record, { cpu: { cpus: '4095' } }, bench.signal)
    await expect(call).rejects.toMatchObject({ code: 'Internal', message: expect.stringContaining('cpus') as string })
  })

  it.skipIf(!hasMemory)('that needs more memory than it may was killed for that', async () => {
    const wish = { resources: { memory: { limit: 16 << 20, swap: 16 << 20 } } }
    const hungry = await bench.started(runtime, { ...wish, args: ['dd', 'if=/dev/zero', 'of=/dev/null', 'bs=64M'] })
    const exit = await bench.executor.wait(hungry.record, hungry.process, bench.signal)
    expect(exit).toMatchObject({ code: 137, reason: 'Exited' })
    expect(await bench.executor.oomKilled(hungry.record, exit)).toBe(true)
    expect(existsSync('/oom')).toBe(false)
  })

  it.skipIf(!hasMemory)('of which a child was killed for memory was not killed itself', async () => {
    const wish = { resources: { memory: { limit: 16 << 20, swap: 16 << 20 } } }
    const script = 'dd if=/dev/zero of=/dev/null bs=64M; trap "exit 0" TERM; while :; do sleep 0.05; done'
    const container = await bench.started(runtime, { ...wish, args: ['sh', '-c', script] })
    await expect
      .poll(() => cgroupFile(container, isV2 ? 'memory.events' : 'memory.oom_control'), { timeout: 10_000 })
      .toMatch(/oom_kill [1-9]/)
    await sleep(200)
    await bench.executor.kill(container.record, container.process, 'SIGTERM')
    const exit = await bench.executor.wait(container.record, container.process, bench.signal)
    expect(exit.code).toBe(0)
    expect(await bench.executor.oomKilled(container.record, exit)).toBe(false)
  })

  it('runs on without its monitor, and its end is seen', async () => {
    const container = await bench.started(runtime)
    const end = bench.executor.wait(container.record, container.process, bench.signal)
    process.kill(await bench.monitor(container), 'SIGKILL')
    expect(await endsWithin(container.process, container.process.bootId, 1500, bench.signal)).toBe(false)
    await bench.executor.kill(container.record, container.process, 'SIGKILL')
    const killedAt = performance.now()
    expect(await end).toMatchObject({ code: 255, reason: 'Unknown' })
    expect(performance.now() - killedAt).toBeLessThan(5000)
  })

  it('is removed without its monitor', async () => {
    const container = await bench.started(runtime)
    process.kill(await bench.monitor(container), 'SIGKILL')
    await bench.clear()
    expect(isAlive(container.process, bench.bootId)).toBe(false)
  })

  it('that was never started is removed', async () => {
    const container = await bench.created(runtime)
    expect(await bench.executor.findProcess(container.record)).toEqual(container.process)
    expect(bench.executor.listOwned().map(({ id }) => id)).toContain(container.record.id)
    await bench.clear()
    expect(isAlive(container.process, bench.bootId)).toBe(false)
  })

  it('has its hooks run when it starts and when it is removed', async () => {
    const [started, stopped] = [join(bench.dir, 'started'), join(bench.dir, 'stopped')]
    const hook = (path: string): object => ({
      path: '/bin/sh',
      args: ['sh', '-c', `cat > /dev/null; echo x >> ${path}`],
    })
    await bench.started(runtime, { hooks: { poststart: [hook(started)], poststop: [hook(stopped)] } })
    expect(await readFile(started, 'utf8')).toBe('x\n')
    await bench.clear()
    expect(await readFile(stopped, 'utf8')).toBe('x\n')
    await bench.programs.runOk('/bin/rm', [started, stopped], { timeoutMs: 5000 })
  })

  it('says what the runtime can do', async () => {
    const features = await bench.executor.runtimeFeatures(runtime, bench.signal)
    expect(features).toMatchObject({ recursiveReadOnlyMounts: true, userNamespaces: true })
    expect(features.checkpoint).toBe(runtime.endsWith('runc'))
  })

  it('is not checkpointed where that cannot be, and runs on', async () => {
    const container = await bench.started(runtime)
    const [imageDir, workDir] = [join(bench.dir, 'checkpoint'), join(bench.dir, 'work')]
    const request = { imageDir, workDir, timeoutMs: 20_000 }
    const attempt = async (): Promise<void> => {
      await bench.executor.checkpoints.check(runtime, 'checkpoint', bench.signal)
      await bench.executor.checkpoints.save(container.record, request, bench.signal)
    }
    const [outcome] = await Promise.allSettled([attempt()])
    // Debian's crun is built without criu, and not every kernel suits criu.
    if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'FailedPrecondition' })
    else expect(runtime).toMatch(/runc$/)
    expect(isAlive(container.process, bench.bootId)).toBe(true)
    await bench.programs.runOk('/bin/rm', ['-rf', imageDir, workDir], { timeoutMs: 5000 })
  })

  it('stands still while it is frozen, and can be ended then', async () => {
    const container = await bench.started(runtime, { args: ['sh', '-c', 'while :; do :; done'] })
    const { executor, signal } = bench
    const ticks = (): string =>
      readFileSync(`/proc/${container.process.pid}/stat`, 'utf8').split(' ').slice(13, 15).join()
    await expect.poll(ticks).not.toBe(ticks())
    await executor.checkpoints.freeze(container.record, signal)
    const before = ticks()
    await executor.checkpoints.freeze(container.record, signal)
    await sleep(100)
    expect(ticks()).toBe(before)
    await executor.checkpoints.thaw(container.record)
    await executor.checkpoints.thaw(container.record)
    await expect.poll(ticks).not.toBe(before)
    await executor.checkpoints.freeze(container.record, signal)
    await executor.delete(container.record, signal)
    expect(isAlive(container.process, bench.bootId)).toBe(false)
    await expect(executor.checkpoints.freeze(container.record, signal)).rejects.toMatchObject({
      code: 'FailedPrecondition',
    })
    await executor.checkpoints.thaw(container.record)
  })
})
