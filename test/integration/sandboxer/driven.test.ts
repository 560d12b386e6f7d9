import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { status } from '@grpc/grpc-js'
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import type { TestDaemon } from '../../support/daemon.ts'
import { DaemonStreams } from '../../support/daemon-streams.ts'
import { type Driven, drivenKuasar, drivenSandboxerd } from '../../support/driven.ts'
import { findShim } from '../../support/peers.ts'
import { eventually as within } from '../../support/pod-facts.ts'
import { TestPod } from '../../support/test-pod.ts'

// A machine may be busy with other things.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })
const eventually = <T>(read: () => Promise<T>, isWanted: (value: T) => boolean): Promise<T> =>
  within(read, isWanted, 30_000)

const shim = findShim() ?? ''
const COUNTER = 'i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done'
const UNTIL_TOLD = 'while [ ! -e /end ]; do sleep 0.05; done; exit 7'

describe.skipIf(shim === '').each([
  { name: 'another sandboxerd', make: drivenSandboxerd },
  { name: 'a sandboxer like those of Kuasar', make: drivenKuasar },
])('pods and containers of $name', ({ make }) => {
  let driven: Driven
  const daemon = (): TestDaemon => driven.daemon
  const streams = new DaemonStreams(daemon)
  beforeAll(async () => {
    driven = await make(shim)
  })
  afterEach(async () => {
    if (!daemon().isRunning) await daemon().restart()
    await driven.startPeer().catch(() => undefined)
    for (const { id } of await daemon().client.list()) await isAnswered(id)
    await daemon().removeListed()
    await driven.expectNothingLeft()
  })
  afterAll(async () => {
    await streams[Symbol.asyncDispose]()
    await driven?.[Symbol.asyncDispose]()
  })

  const run = (config = daemon().pod()): Promise<TestPod> => TestPod.run(daemon(), 'far', config)

  async function becomes(id: string, wanted: string): Promise<void> {
    const seen = await eventually(
      async () => (await daemon().client.status(id)).state,
      (state) => state === wanted,
    )
    expect(seen).toBe(wanted)
  }

  /** The sandboxer tells of the pod again. */
  async function isAnswered(id: string): Promise<void> {
    const seen = await eventually(
      () => daemon().client.info(id),
      ({ state, stale }) => state !== 'PENDING' && !stale,
    )
    expect(seen).toMatchObject({ state: expect.stringMatching(/^(RUNNING|STOPPED)$/) as unknown })
  }

  async function bothAnswer(pod: TestPod, id: string): Promise<void> {
    await isAnswered(pod.id)
    await becomes(pod.id, 'SANDBOX_READY')
    expect(await daemon().client.containers.shell(id, 'echo here')).toBe('here')
  }

  it('look like those of our own shim', async () => {
    const { client } = daemon()
    using events = client.events()
    const pod = await run(daemon().pod({ hostname: 'web-1' }))
    const id = await pod.create({ command: ['/bin/sh', '-c', `echo one; echo two >&2; ${UNTIL_TOLD}`] })
    expect(await client.containers.status(id)).toMatchObject({ state: 'CONTAINER_CREATED' })
    await client.containers.start(id)
    expect(await client.containers.status(id)).toMatchObject({ state: 'CONTAINER_RUNNING' })
    expect((await client.containers.list({ id })).map(({ state }) => state)).toEqual(['CONTAINER_RUNNING'])

    const { network } = await client.status(pod.id)
    expect(await client.containers.shell(id, 'hostname; cat /etc/hostname')).toBe('web-1\nweb-1')
    expect(await client.containers.shell(id, 'hostname -i')).toBe(network?.ip)
    expect(await client.containers.exec(id, ['/bin/sh', '-c', 'echo out; echo err >&2; exit 3'])).toEqual({
      exitCode: 3,
      stdout: 'out\n',
      stderr: 'err\n',
    })
    const session = await streams.exec(id, ['/bin/sh', '-c', 'cat; exit 4'], { stdin: true, stdout: true }, 'websocket')
    session.stdin?.end('typed')
    expect(session.stdout && (await text(session.stdout))).toBe('typed')

    const stats = await eventually(
      () => client.stats.container(id),
      ({ cpu }) => BigInt(cpu?.usage_core_nano_seconds?.value ?? 0) > 0n,
    )
    expect(BigInt(stats.memory?.working_set_bytes?.value ?? 0)).toBeGreaterThan(0n)
    expect((await client.stats.pod(pod.id)).linux?.containers.map(({ attributes }) => attributes?.id)).toEqual([id])

    await client.containers.shell(id, 'touch /end')
    const { status: last, stdout, stderr } = await pod.ended(id)
    expect(last).toMatchObject({ exit_code: 7, reason: 'Error' })
    expect({ stdout, stderr }).toEqual({ stdout: 'one\n', stderr: 'two\n' })
    await client.containers.remove(id)
    await client.stop(pod.id)
    await becomes(pod.id, 'SANDBOX_NOTREADY')
    await client.remove(pod.id)
    expect(events.typesOf(id)).toEqual(['CREATED', 'STARTED', 'STOPPED', 'DELETED'])
    expect(events.typesOf(pod.id)).toEqual(['CREATED', 'STARTED', 'STOPPED', 'DELETED'])
  })

  it('share what a pod shares, and nothing else', async () => {
    const pod = await run()
    const [a, b] = [await pod.start(), await pod.start()]
    const namespaces = (id: string): Promise<string> =>
      daemon().client.containers.shell(id, 'for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done')
    const [one, two] = [(await namespaces(a)).split('\n'), (await namespaces(b)).split('\n')]
    expect(one.slice(0, 3)).toEqual(two.slice(0, 3))
    expect(one[4]).not.toBe(two[4])
    expect(one[0]).not.toBe((await daemon().client.info(pod.id)).netnsPath)
    await daemon().client.containers.shell(a, 'echo shared > /dev/shm/f')
    expect(await daemon().client.containers.shell(b, 'cat /dev/shm/f')).toBe('shared')
  })

  it('may be many at once', async () => {
    const pod = await run()
    const ids = await Promise.all(Array.from({ length: 8 }, () => pod.start()))
    expect(await Promise.all(ids.map((id, at) => daemon().client.containers.shell(id, `echo ${at}`)))).toEqual(
      ids.map((_, at) => String(at)),
    )
    await Promise.all(ids.map((id) => daemon().client.containers.remove(id)))
    expect(await daemon().client.containers.list()).toEqual([])
  })

  it('go on when the sandboxer is killed and comes back', async () => {
    const pod = await run()
    const id = await pod.start({ command: ['/bin/sh', '-c', COUNTER] })
    await driven.killPeer()
    // Its containers are not at the sandboxer, but it may have to be told of commands.
    const meanwhile = daemon().client.containers.shell(id, 'echo here')
    if (driven.wantsAnnouncements) await expect(meanwhile).rejects.toMatchObject({ code: status.UNAVAILABLE })
    else expect(await meanwhile).toBe('here')
    await becomes(pod.id, 'SANDBOX_NOTREADY')
    expect(await daemon().client.info(pod.id)).toMatchObject({ state: 'PENDING', stale: true })
    expect((await daemon().client.containers.status(id)).state).toBe('CONTAINER_RUNNING')
    await driven.startPeer()
    await bothAnswer(pod, id)
    await expectEveryNumber(id)
  })

  it.each(['sandboxer', 'daemon'])('go on when both are killed, and the %s comes back first', async (first) => {
    const pod = await run()
    const id = await pod.start({ command: ['/bin/sh', '-c', COUNTER] })
    const ending = await pod.start({ command: ['/bin/sh', '-c', UNTIL_TOLD] })
    const root = `/proc/${(await daemon().client.containers.info(ending)).pid}/root`
    await driven.killPeer()
    await daemon().kill9()
    writeFileSync(`${root}/end`, '')
    if (first === 'sandboxer') await driven.startPeer()
    await daemon().restart()
    expect((await pod.ended(ending)).status).toMatchObject({ exit_code: 7, reason: 'Error' })
    if (first === 'daemon') {
      await becomes(pod.id, 'SANDBOX_NOTREADY')
      await driven.startPeer()
    }
    await bothAnswer(pod, id)
    await expectEveryNumber(id)
  })

  it('end with the process that holds the namespaces', async () => {
    const pod = await run()
    const id = await pod.start()
    process.kill(await driven.pausePid(pod.id), 'SIGKILL')
    await becomes(pod.id, 'SANDBOX_NOTREADY')
    expect(await daemon().client.info(pod.id)).toMatchObject({ state: 'STOPPED', exit: { reason: 'Exited' } })
    await daemon().client.stop(pod.id)
    expect((await pod.ended(id)).status.state).toBe('CONTAINER_EXITED')
  })

  it('are told from those that ended while nobody was there', async () => {
    const [kept, killed] = [await run(), await run()]
    const [id] = [await kept.start(), await killed.start()]
    const { pid } = await daemon().client.containers.info(id)
    const pause = await driven.pausePid(killed.id)
    await daemon().kill9()
    process.kill(pause, 'SIGKILL')
    await daemon().restart()
    await becomes(killed.id, 'SANDBOX_NOTREADY')
    await bothAnswer(kept, id)
    expect((await daemon().client.containers.info(id)).pid).toBe(pid)
  })

  it('are not stopped by a Stop that nobody hears, which says so', async () => {
    const pod = await run()
    const id = await pod.start()
    await driven.killPeer()
    await expect(daemon().client.stop(pod.id)).rejects.toMatchObject({ code: status.UNAVAILABLE })
    // It went as far as it could.
    expect((await daemon().client.containers.status(id)).state).toBe('CONTAINER_EXITED')
    expect((await daemon().client.list()).map((found) => found.id)).toContain(pod.id)
    await driven.startPeer()
    await isAnswered(pod.id)
    await daemon().client.stop(pod.id)
    await becomes(pod.id, 'SANDBOX_NOTREADY')
  })

  it('can be stopped and removed without their sandboxer, and come back with it', async () => {
    const [kept, removed] = [await run(), await run()]
    const [id] = [await kept.start({ command: ['/bin/sh', '-c', COUNTER] }), await removed.start()]
    const path = join(daemon().dir, 'config.toml')
    const config = readFileSync(path, 'utf8')
    await daemon().kill9()
    writeFileSync(path, config.replaceAll(/^\[(runtimes|sandboxers)\.far\]\n(.+\n)*/gm, ''))
    onTestFinished(() => writeFileSync(path, config))
    await daemon().restart()
    expect((await daemon().client.list()).map(({ id: pod, state }) => [pod, state])).toEqual([
      [removed.id, 'SANDBOX_NOTREADY'],
      [kept.id, 'SANDBOX_NOTREADY'],
    ])
    expect((await daemon().client.info(kept.id)).quarantined).toContain('sandboxer far: not one of')
    expect((await daemon().client.containers.status(id)).state).toBe('CONTAINER_RUNNING')
    await daemon().client.stop(removed.id)
    await daemon().client.remove(removed.id)
    expect((await daemon().client.containers.list()).map(({ id: left }) => left)).toEqual([id])

    await daemon().kill9()
    writeFileSync(path, config)
    await daemon().restart()
    await bothAnswer(kept, id)
    await expectEveryNumber(id)
  })

  /** No line of the log is lost or doubled, and it grows. */
  async function expectEveryNumber(id: string): Promise<void> {
    const { log_path: path } = await daemon().client.containers.status(id)
    const numbers = (): number[] =>
      readFileSync(path, 'utf8')
        .trim()
        .split('\n')
        .map((line) => Number(line.split(' ').at(-1)))
    const before = numbers().length
    const after = await eventually(
      async () => numbers(),
      (found) => found.length > before + 2,
    )
    expect(after).toEqual(after.map((_, index) => index))
  }
})
