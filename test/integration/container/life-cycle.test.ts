import { existsSync, readFileSync } from 'node:fs'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { containerCgroup } from '../../support/cgroup-driver.ts'
import { memoryCgroup } from '../../support/cgroup-files.ts'
import { containing } from '../../support/cni-plugins/containing.ts'
import { SHIM_HANDLERS, sharedDaemon } from '../../support/daemon.ts'
import { eventually } from '../../support/pod-facts.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

const HANDLERS = ['crun', 'runc', 'crun-pinned', 'runc-pinned', ...SHIM_HANDLERS]
const PLACES = HANDLERS.flatMap((handler) => (['cni', 'host'] as const).map((network) => ({ handler, network })))

const pod = (handler = 'crun-pinned'): Promise<TestPod> => TestPod.run(daemon(), handler)

describe.each(PLACES)('the life of a container on $handler with $network network', ({ handler, network }) => {
  it('begins, is seen, ends and leaves nothing', async () => {
    const { client } = daemon()
    const config = network === 'cni' ? daemon().pod() : daemon().hostPod()
    const own = await TestPod.run(daemon(), handler, config)
    const before = BigInt(Date.now()) * 1_000_000n
    const part = {
      metadata: { name: 'main', attempt: 3 },
      labels: { app: 'web', tier: 'front' },
      annotations: { 'example.com/note': 'kept as it is: ü' },
      command: ['/bin/sh', '-c', 'trap "exit 0" TERM; echo one; echo two >&2; sleep 1000 & wait'],
      log_path: 'main/3.log',
    }
    const id = await own.create(part)
    expect(id).toMatch(/^[0-9a-f]{64}$/)
    const image = await client.images.status(await daemon().pull())
    const created = await client.containers.status(id)
    expect(created).toMatchObject({
      id,
      state: 'CONTAINER_CREATED',
      metadata: part.metadata,
      labels: part.labels,
      annotations: part.annotations,
      image: { image: await daemon().pull() },
      image_id: image?.id,
      started_at: '0',
      finished_at: '0',
      exit_code: 0,
      log_path: `${own.config.log_directory ?? ''}/main/3.log`,
    })
    expect(created.image_ref).toBe(image?.repo_digests[0])
    expect(BigInt(created.created_at)).toBeGreaterThanOrEqual(before)

    await client.containers.start(id)
    const running = await client.containers.status(id)
    expect(running).toMatchObject({ state: 'CONTAINER_RUNNING', created_at: created.created_at, finished_at: '0' })
    expect(BigInt(running.started_at)).toBeGreaterThanOrEqual(BigInt(created.created_at))
    const { pid } = await client.containers.info(id)
    // The runtime is told to start it, and becomes it a moment later.
    await expect.poll(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toContain('echo one')
    await expect.poll(() => readFileSync(running.log_path, 'utf8')).toContain('two')
    expect(memoryCgroup(pid)).toBe(containerCgroup(config.linux?.cgroup_parent ?? '', id, handler))

    await client.containers.stop(id, 10)
    expect(existsSync(`/proc/${pid}/ns/mnt`)).toBe(false)
    const { status, stdout, stderr } = await own.ended(id)
    expect(status).toMatchObject({ state: 'CONTAINER_EXITED', exit_code: 0, reason: 'Completed' })
    expect(status.started_at).toBe(running.started_at)
    expect(BigInt(status.finished_at)).toBeGreaterThanOrEqual(BigInt(status.started_at))
    expect({ stdout, stderr }).toEqual({ stdout: 'one\n', stderr: 'two\n' })

    await client.containers.remove(id)
    await expect(client.containers.status(id)).rejects.toMatchObject({ code: grpc.NOT_FOUND })
    expect(await client.containers.list()).toEqual([])
    expect((await client.status(own.id)).state).toBe('SANDBOX_READY')
  })
})

describe.each(['crun-pinned', 'runc', ...SHIM_HANDLERS])('a container that ends by itself on %s', (handler) => {
  it.each([
    { script: 'exit 0', code: 0, reason: 'Completed' },
    { script: 'exit 1', code: 1, reason: 'Error' },
    { script: 'exit 42', code: 42, reason: 'Error' },
    { script: 'exit 255', code: 255, reason: 'Error' },
  ])('by `$script` has that exit code and the reason $reason', async ({ script, code, reason }) => {
    const own = await pod(handler)
    const { status } = await own.run(script)
    expect(status).toMatchObject({ exit_code: code, reason })
    const took = BigInt(status.finished_at) - BigInt(status.started_at)
    expect(took).toBeGreaterThanOrEqual(0n)
  })

  it.each([
    { signal: 'SIGKILL', code: 137 },
    { signal: 'SIGTERM', code: 143 },
  ] as const)('by $signal from outside has the exit code $code', async ({ signal, code }) => {
    const own = await pod(handler)
    // PID 1 of a namespace gets from outside even what it does not handle only where that is SIGKILL.
    const id = await own.start({ command: ['/bin/sh', '-c', 'trap "trap - TERM; exit 143" TERM; sleep 1000 & wait'] })
    const { pid } = await daemon().client.containers.info(id)
    process.kill(pid, signal)
    const { status } = await own.ended(id)
    expect(status).toMatchObject({ exit_code: code, reason: 'Error' })
  })
})

describe('StartContainer', () => {
  it('is refused for one that runs, or has ended', async () => {
    const own = await pod()
    const id = await own.start()
    const { containers } = daemon().client
    await expect(containers.start(id)).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION })
    await containers.stop(id)
    await expect(containers.start(id)).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION })
    await expect(containers.start('0'.repeat(64))).rejects.toMatchObject({ code: grpc.NOT_FOUND })
  })
})

describe.each(['crun-pinned', 'runc-pinned', ...SHIM_HANDLERS])('a program that is not there on %s', (handler) => {
  it('is told at create or start, and can be seen and removed', async () => {
    const own = await pod(handler)
    const { containers } = daemon().client
    const outcome = own.start({ command: ['/no/such/program'] })
    await expect(outcome).rejects.toMatchObject({ details: containing('/no/such/program') })
    for (const { id } of await containers.list()) {
      expect((await containers.status(id)).state).not.toBe('CONTAINER_RUNNING')
      await containers.remove(id)
    }
    expect(await containers.list()).toEqual([])
  })
})

describe('RemoveContainer', () => {
  it('takes one that runs, that was never started, that nobody knows, again and again', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const [running, created] = [await own.start(), await own.create()]
    const { pid } = await containers.info(running)
    for (const id of [running, created, 'f'.repeat(64), running]) await containers.remove(id)
    expect(existsSync(`/proc/${pid}/ns/mnt`)).toBe(false)
    expect(await containers.list()).toEqual([])
  })

  it('and StopContainer succeed for fifty callers at once', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const id = await own.start()
    const calls = Array.from({ length: 50 }, (_, index) => [
      containers.stop(id),
      ...(index >= 5 ? [containers.remove(id)] : []),
    ])
    await Promise.all(calls.flat())
    expect(await containers.list()).toEqual([])
  })
})

describe('several containers of a pod', () => {
  it('live and end on their own', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const ids = await Promise.all(Array.from({ length: 4 }, () => own.start()))
    await containers.stop(ids[0] ?? '')
    const states = await Promise.all(ids.map(async (id) => (await containers.status(id)).state))
    expect(states).toEqual(['CONTAINER_EXITED', 'CONTAINER_RUNNING', 'CONTAINER_RUNNING', 'CONTAINER_RUNNING'])
    const attempt = await own.containerConfig()
    await containers.remove(ids[0] ?? '')
    const next = daemon().track(await containers.create(own.id, attempt, own.config))
    await containers.start(next)
    await eventually(
      () => containers.status(next),
      ({ state }) => state === 'CONTAINER_RUNNING',
    )
    expect(await containers.list({ state: { state: 'CONTAINER_RUNNING' } })).toHaveLength(4)
  })
})
