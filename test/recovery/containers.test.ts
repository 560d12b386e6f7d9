import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { parseLog, text } from '../support/container-log.ts'
import { SHIM_HANDLERS, ownDaemons, type TestDaemon } from '../support/daemon.ts'
import { processes } from '../support/machine.ts'
import { TestPod } from '../support/test-pod.ts'

const start = ownDaemons()

const HANDLERS = ['crun', 'runc', 'crun-pinned', 'runc-pinned', ...SHIM_HANDLERS]
const NEXT_BOOT = '22222222-2222-4333-8444-555555555555'
const sh = (script: string): { command: string[] } => ({ command: ['/bin/sh', '-c', script] })

/** All that the front tells of images, pods and containers, but for the times at which it was asked. */
async function dump(daemon: TestDaemon): Promise<unknown> {
  const { client } = daemon
  const [pods, containers, images] = await Promise.all([client.list(), client.containers.list(), client.images.list()])
  return {
    pods,
    containers,
    images,
    podStatuses: await Promise.all(pods.map(({ id }) => client.status(id))),
    containerStatuses: await Promise.all(containers.map(({ id }) => client.containers.status(id))),
    containerInfos: await Promise.all(containers.map(({ id }) => client.containers.info(id))),
  }
}

describe('kill -9 of a daemon with containers', () => {
  it('hurts none of them, and changes nothing that is told of them', async () => {
    const daemon = await start()
    const pods = await Promise.all(HANDLERS.map((handler) => TestPod.run(daemon, handler, daemon.pod())))
    const part = {
      labels: { app: 'web' },
      annotations: { note: 'ü' },
      env: { A: 'b\nc' },
      resources: { memory_limit_in_bytes: String(64 << 20) },
    }
    for (const pod of pods) {
      await pod.start(part)
      await pod.create(part)
      await pod.run('exit 3')
    }
    const [running] = await daemon.client.containers.list({ state: { state: 'CONTAINER_RUNNING' } })
    await daemon.client.containers.update(running?.id ?? '', { memory_limit_in_bytes: String(96 << 20) })
    const before = await dump(daemon)
    for (let round = 0; round < 3; round++) {
      await daemon.restart()
      expect(await dump(daemon)).toEqual(before)
    }
    const { containers } = daemon.client
    for (const { id, state } of await containers.list()) {
      if (state === 'CONTAINER_CREATED') await containers.start(id)
      if (state !== 'CONTAINER_EXITED') expect(await containers.shell(id, 'echo alive')).toBe('alive')
    }
    await daemon.removeListed()
  })

  it('loses no line of a log', async () => {
    const daemon = await start()
    const pod = await TestPod.run(daemon)
    const script = 'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; usleep 1000; done'
    const id = await pod.start(sh(script))
    for (let round = 0; round < 3; round++) {
      await daemon.restart()
      await sleep(100)
    }
    const { stdout, status } = await pod.ended(id, 60_000)
    expect(stdout).toBe(Array.from({ length: 3000 }, (_, index) => `line ${index + 1}\n`).join(''))
    expect(status).toMatchObject({ exit_code: 0, reason: 'Completed' })
    await daemon.removeListed()
  })

  it('ends an exec that the one before has left, and lets the next one through', async () => {
    const daemon = await start()
    const pod = await TestPod.run(daemon)
    const id = await pod.start()
    const running = daemon.client.containers.exec(id, ['/bin/sleep', '991'])
    running.catch(() => undefined)
    await sleep(500)
    await daemon.restart()
    await expect(running).rejects.toThrow()
    // Nobody waits for the old one any more.
    expect(await daemon.client.containers.shell(id, 'ps -o args | grep -c "[s]leep 991" || echo again')).toBe(
      '0\nagain',
    )
    await daemon.removeListed()
  })
})

describe.each(['crun', 'runc-pinned', ...SHIM_HANDLERS])(
  'a container on %s that ends while the daemon is down',
  (handler) => {
    it.each([
      { script: 'usleep 500000; exit 0', code: 0, reason: 'Completed' },
      { script: 'usleep 500000; exit 1', code: 1, reason: 'Error' },
      { script: 'trap "exit 143" TERM; usleep 500000; kill $$; sleep 1', code: 143, reason: 'Error' },
    ])('by `$script` is found with its exit code, reason and time', async ({ script, code, reason }) => {
      const daemon = await start()
      const pod = await TestPod.run(daemon, handler)
      const id = await pod.start(sh(script))
      const startedAt = BigInt(Date.now()) * 1_000_000n
      await daemon.kill9()
      await sleep(1500)
      await daemon.restart()
      const status = await daemon.client.containers.status(id)
      expect(status).toMatchObject({ state: 'CONTAINER_EXITED', exit_code: code, reason })
      const lateNs = BigInt(status.finished_at) - startedAt
      expect(lateNs).toBeGreaterThan(0n)
      expect(lateNs).toBeLessThan(1_400_000_000n)
      await daemon.removeListed()
    })

    it('by SIGKILL, or for want of memory, is found so', async () => {
      const daemon = await start()
      const pod = await TestPod.run(daemon, handler)
      const killed = await pod.start()
      const hungry = await pod.start({
        ...sh('usleep 500000; exec tail /dev/zero'),
        resources: { memory_limit_in_bytes: String(24 << 20) },
      })
      const { pid } = await daemon.client.containers.info(killed)
      await daemon.kill9()
      process.kill(pid, 'SIGKILL')
      await sleep(2500)
      await daemon.restart()
      const { containers } = daemon.client
      expect(await containers.status(killed)).toMatchObject({ exit_code: 137, reason: 'Error' })
      expect(await containers.status(hungry)).toMatchObject({ exit_code: 137, reason: 'OOMKilled' })
      await daemon.removeListed()
    })
  },
)

describe('a container whose monitor was killed with it while the daemon was down', () => {
  it('is found ended, with a code that claims nothing', async () => {
    const daemon = await start()
    const pod = await TestPod.run(daemon)
    const id = await pod.start()
    await daemon.kill9()
    await daemon.killPods()
    await daemon.restart()
    const status = await daemon.client.containers.status(id)
    expect(status.state).toBe('CONTAINER_EXITED')
    expect([137, 255]).toContain(status.exit_code)
    await daemon.removeListed()
  })
})

describe('a subscriber to events', () => {
  it('that comes back after a restart is told of what ends then', async () => {
    const daemon = await start()
    const pod = await TestPod.run(daemon)
    const id = await pod.start()
    await daemon.restart()
    using stream = daemon.client.events()
    await sleep(300)
    await daemon.client.containers.stop(id, 5)
    await expect.poll(() => stream.typesOf(id), { timeout: 5000 }).toEqual(['STOPPED'])
    await daemon.removeListed()
  })
})

describe('a reboot', () => {
  it('ends all containers, says so, and keeps logs and images', async () => {
    const daemon = await start()
    const pods = await Promise.all(HANDLERS.map((handler) => TestPod.run(daemon, handler)))
    const running = await Promise.all(pods.map((pod) => pod.start()))
    const { id: ended, status } = await (pods[0] as TestPod).run('echo kept; exit 3')
    const created = await (pods[1] as TestPod).create()
    await daemon.reboot(NEXT_BOOT)
    const { containers, images } = daemon.client
    for (const id of running) {
      expect(await containers.status(id)).toMatchObject({
        state: 'CONTAINER_EXITED',
        exit_code: 255,
        reason: 'NodeReboot',
      })
    }
    expect(await containers.status(ended)).toMatchObject({ exit_code: 3, reason: 'Error' })
    expect((await containers.status(created)).state).toBe('CONTAINER_EXITED')
    expect(text(parseLog(readFileSync(status.log_path, 'utf8')), 'stdout')).toBe('kept\n')
    expect(await images.list()).toHaveLength(1)
    await expect(containers.start(created)).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION })
    const again = await TestPod.run(daemon)
    expect(await again.prints('echo again')).toBe('again')
    await daemon.removeListed()
  })
})

describe('kill -9 while an image is pulled', () => {
  it('leaves nothing of it, and the next pull succeeds', async () => {
    const daemon = await start()
    const big = { name: 'big', layers: [[{ path: 'big', content: noise(48 << 20) }]] }
    const { ref } = await daemon.images.push(big)
    for (const afterMs of [30, 100, 200, 400]) {
      const pulling = daemon.client.images.pull(ref)
      pulling.catch(() => undefined)
      await sleep(afterMs)
      await daemon.restart()
      const listed = await daemon.client.images.list()
      // Whole or not at all.
      expect(listed.length).toBeLessThanOrEqual(1)
      for (const { id } of listed) await daemon.client.images.remove(id)
    }
    await daemon.client.images.pull(ref)
    expect((await daemon.client.images.status(ref))?.repo_tags).toEqual([ref])
    await daemon.pull()
    const pod = await TestPod.run(daemon)
    const mounts = [{ container_path: '/data', image: { image: ref } }]
    expect(await pod.prints('wc -c </data/big', { mounts })).toBe(String(48 << 20))
    const { dir, node, cgroupParent, pid } = daemon
    const tools = processes({ dir, node, cgroupParent, ids: [], daemons: [pid] })
    expect(tools.filter(({ what }) => what.includes('skopeo'))).toEqual([])
    await daemon.removeListed()
  })
})

/** Bytes that do not compress. */
function noise(size: number): Buffer {
  const bytes = Buffer.alloc(size)
  let state = 12_345
  for (let at = 0; at < size; at += 4) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    bytes.writeUInt32LE(state, at)
  }
  return bytes
}
