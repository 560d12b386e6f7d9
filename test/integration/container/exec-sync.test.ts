import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { containing } from '../../support/cni-plugins/containing.ts'
import { SHIM_HANDLERS, sharedDaemon } from '../../support/daemon.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

const MIB = 1024 * 1024
const sh = (script: string): string[] => ['/bin/sh', '-c', script]

async function target(handler = 'crun-pinned'): Promise<string> {
  return (await TestPod.run(daemon(), handler)).start()
}

describe.each(['crun', 'runc', 'crun-pinned', 'runc-pinned', ...SHIM_HANDLERS])('ExecSync on %s', (handler) => {
  it('gives the exit code and both streams', async () => {
    const id = await target(handler)
    const { containers } = daemon().client
    expect(await containers.exec(id, sh('echo out; echo err >&2; exit 3'))).toEqual({
      exitCode: 3,
      stdout: 'out\n',
      stderr: 'err\n',
    })
    expect(await containers.exec(id, ['/bin/true'])).toEqual({ exitCode: 0, stdout: '', stderr: '' })
    expect((await containers.exec(id, sh('kill -9 $$'))).exitCode).toBe(137)
  })

  it('past its time kills all that it started, and says so', async () => {
    const id = await target(handler)
    const { containers } = daemon().client
    const began = performance.now()
    const running = containers.exec(id, sh('sleep 997 & setsid sleep 997 & sleep 997'), 1)
    await expect(running).rejects.toMatchObject({ code: grpc.DEADLINE_EXCEEDED })
    expect(performance.now() - began).toBeLessThan(10_000)
    await expect.poll(() => containers.shell(id, 'ps | grep -c "[s]leep 997" || true'), { timeout: 5000 }).toBe('0')
    expect((await containers.status(id)).state).toBe('CONTAINER_RUNNING')
  })

  it('does not wait for what keeps its output open', async () => {
    const id = await target(handler)
    const { exitCode, stdout } = await daemon().client.containers.exec(id, sh('sleep 365 & echo done'), 20)
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: 'done\n' })
  })

  it('says that there is no such program', async () => {
    const id = await target(handler)
    await expect(daemon().client.containers.exec(id, ['/no/such'])).rejects.toMatchObject({
      details: containing('/no/such'),
    })
  })
})

describe('ExecSync', () => {
  it('has the environment, user, directory and limits of the container', async () => {
    const own = await TestPod.run(daemon())
    const id = await own.start({
      working_dir: '/tmp',
      env: { COLOUR: 'blue sky' },
      security: { run_as_user: { value: '1234' }, run_as_group: { value: '2345' }, no_new_privs: true },
    })
    const { containers } = daemon().client
    expect(await containers.shell(id, 'echo "$COLOUR $(pwd) $(id -u):$(id -g)"')).toBe('blue sky /tmp 1234:2345')
    const status = await containers.shell(id, 'cat /proc/self/status')
    expect(status).toMatch(/NoNewPrivs:\s+1/)
    expect(status).toMatch(/CapEff:\s+0000000000000000/)
    expect(status).toMatch(/Cpus_allowed:/)
    const cgroup = await containers.shell(id, 'cat /proc/self/cgroup')
    expect(cgroup).toBe(await containers.shell(id, 'cat /proc/1/cgroup'))
  })

  it('cuts its output at what fits into one answer of 16 MiB, and lets the program end', async () => {
    const id = await target()
    const { containers } = daemon().client
    const script = 'yes | head -c 100000000; yes no | head -c 100000000 >&2; exit 5'
    const { exitCode, stdout, stderr } = await containers.execBytes(id, sh(script))
    expect(exitCode).toBe(5)
    // A kubelet takes no more than that.
    expect(stdout.length + stderr.length).toBeLessThanOrEqual(16 * MIB)
    for (const stream of [stdout, stderr]) expect(stream.length).toBeGreaterThan(7 * MIB)
    expect(stdout.subarray(0, 4).toString()).toBe('y\ny\n')
    const alone = await containers.execBytes(id, sh('yes | head -c 100000000'))
    expect(alone.stdout.length).toBeGreaterThan(15 * MIB)
  })

  it('with endless output ends at its time', async () => {
    const id = await target()
    const { containers } = daemon().client
    const running = Array.from({ length: 4 }, () => containers.exec(id, ['/bin/yes'], 1))
    for (const outcome of await Promise.allSettled(running)) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: grpc.DEADLINE_EXCEEDED } })
    }
    await expect.poll(() => containers.shell(id, 'ps | grep -c "[y]es" || true'), { timeout: 5000 }).toBe('0')
  })

  it('is refused for a container that does not run', async () => {
    const own = await TestPod.run(daemon())
    const { containers } = daemon().client
    const created = await own.create()
    const { id: ended } = await own.run('true')
    for (const id of [created, ended]) {
      await expect(containers.exec(id, ['/bin/true'])).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION })
    }
    await expect(containers.exec('c'.repeat(64), ['/bin/true'])).rejects.toMatchObject({ code: grpc.NOT_FOUND })
    await expect(containers.exec(created, [])).rejects.toMatchObject({ code: grpc.INVALID_ARGUMENT })
  })

  it('ends with its container', async () => {
    const id = await target()
    const { containers } = daemon().client
    const running = containers.exec(id, ['/bin/sleep', '500']).then(
      ({ exitCode }) => exitCode,
      () => 'refused',
    )
    await sleep(300)
    await containers.stop(id, 5)
    expect([137, 143, 'refused']).toContain(await running)
  })

  it('is killed when its caller goes away', async () => {
    const id = await target()
    const { containers } = daemon().client
    await expect(containers.exec(id, ['/bin/sleep', '996'], 0, { timeoutMs: 500 })).rejects.toMatchObject({
      code: grpc.DEADLINE_EXCEEDED,
    })
    await expect.poll(() => containers.shell(id, 'ps | grep -c "[s]leep 996" || true'), { timeout: 10_000 }).toBe('0')
  })

  it('two hundred times leaves neither zombies nor open files, and gets every exit code right', async () => {
    const id = await target()
    const { containers } = daemon().client
    const fds = (): number => readdirSync(`/proc/${daemon().pid}/fd`).length
    await containers.exec(id, ['/bin/true'])
    const before = fds()
    let next = 0
    const worker = async (): Promise<void> => {
      for (let number = next++; number < 200; number = next++) {
        const { exitCode, stdout } = await containers.exec(id, sh(`echo ${number}; exit ${number % 100}`))
        expect({ exitCode, stdout }).toEqual({ exitCode: number % 100, stdout: `${number}\n` })
      }
    }
    await Promise.all(Array.from({ length: 8 }, worker))
    expect(await containers.shell(id, 'ls /proc | grep -c "^[0-9]"')).toMatch(/^[2-6]$/)
    // The connection of a caller may come and go.
    await expect.poll(fds, { timeout: 5000 }).toBeLessThanOrEqual(before + 2)
  })
})
