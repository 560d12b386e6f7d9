import { setTimeout as sleep } from 'node:timers/promises'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { SHIM_HANDLERS, sharedDaemon } from '../../support/daemon.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

const pod = (handler = 'crun-pinned'): Promise<TestPod> => TestPod.run(daemon(), handler)
/** Says which signals it gets; only SIGKILL ends it. */
const STUBBORN = [
  '/bin/sh',
  '-c',
  'for s in TERM INT USR1 QUIT; do trap "echo got $s" $s; done; echo up; while :; do sleep 0.05; done',
]

async function stubborn(own: TestPod, part: object = {}): Promise<string> {
  const id = await own.start({ command: STUBBORN, ...part })
  // A signal before the handlers are there would be lost.
  await sleep(300)
  return id
}

describe.each(['crun-pinned', 'runc', ...SHIM_HANDLERS])('StopContainer on %s', (handler) => {
  it('sends SIGTERM, waits for the grace period, and kills', async () => {
    const own = await pod(handler)
    const id = await stubborn(own)
    const began = performance.now()
    await daemon().client.containers.stop(id, 1)
    expect(performance.now() - began).toBeGreaterThan(900)
    const { status, stdout } = await own.ended(id)
    expect(status).toMatchObject({ exit_code: 137, reason: 'Error' })
    expect(stdout).toBe('up\ngot TERM\n')
  })

  it('with no grace kills at once', async () => {
    const own = await pod(handler)
    const id = await stubborn(own)
    await daemon().client.containers.stop(id, 0)
    expect((await own.ended(id)).status.exit_code).toBe(137)
  })
})

describe('StopContainer', () => {
  it('sends the signal of the image, or of the request, which goes first', async () => {
    const own = await pod()
    const image = await daemon().pull({ name: 'stopped-by-quit', config: { StopSignal: 'SIGQUIT' } })
    const byImage = await stubborn(own, { image: { image } })
    const byRequest = await stubborn(own, { image: { image }, stop_signal: 'SIGNAL_SIGUSR1' })
    const { containers } = daemon().client
    await Promise.all([containers.stop(byImage, 1), containers.stop(byRequest, 1)])
    expect((await own.ended(byImage)).stdout).toBe('up\ngot QUIT\n')
    expect((await own.ended(byRequest)).stdout).toBe('up\ngot USR1\n')
    expect((await containers.status(byRequest)).stop_signal).toBe('SIGNAL_SIGUSR1')
  })

  it('is shortened by a later one with less grace', async () => {
    const own = await pod()
    const id = await stubborn(own)
    const { containers } = daemon().client
    const first = containers.stop(id, 1000)
    await sleep(200)
    const began = performance.now()
    await Promise.all([first, containers.stop(id, 1)])
    // Far from the thousand seconds.
    expect(performance.now() - began).toBeLessThan(20_000)
    expect((await own.ended(id)).status.exit_code).toBe(137)
  })

  it('is not lengthened by a later one with more grace', async () => {
    const own = await pod()
    const id = await stubborn(own)
    const { containers } = daemon().client
    await Promise.all([containers.stop(id, 1), sleep(100).then(() => containers.stop(id, 1000))])
    expect((await own.ended(id)).status.exit_code).toBe(137)
  })

  it('lets a thousand callers wait, each to its own deadline, and hinders no other pod', async () => {
    const own = await pod()
    const id = await stubborn(own)
    const { containers } = daemon().client
    const callers = Array.from({ length: 1000 }, (_, index) =>
      containers.stop(id, 1000, { timeoutMs: 1000 + index }).then(
        () => 'done',
        (error: unknown) => (error as { code: number }).code,
      ),
    )
    const other = await pod('crun')
    const neighbour = await other.start()
    await containers.stop(neighbour, 5)
    expect((await containers.status(id)).state).toBe('CONTAINER_RUNNING')
    expect(new Set(await Promise.all(callers))).toEqual(new Set([grpc.DEADLINE_EXCEEDED]))
    await containers.stop(id, 0)
    expect((await own.ended(id)).status.exit_code).toBe(137)
  })

  it('while it waits holds up neither reads nor exec', async () => {
    const own = await pod()
    const id = await stubborn(own)
    const { containers } = daemon().client
    const stopping = containers.stop(id, 1000)
    await sleep(100)
    expect((await containers.status(id)).state).toBe('CONTAINER_RUNNING')
    expect(await containers.list()).toHaveLength(1)
    expect(await containers.shell(id, 'echo still here')).toBe('still here')
    await containers.stop(id, 0)
    await stopping
  })

  it('of one that was created only ends it without a run', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const id = await own.create({ command: ['/bin/sh', '-c', 'echo must not run'] })
    await containers.stop(id, 1)
    const { status, stdout } = await own.ended(id)
    expect(status).toMatchObject({ started_at: '0' })
    expect(stdout).toBe('')
    await expect(containers.start(id)).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION })
  })

  it('succeeds for one that has ended, and for one that nobody knows', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const { id } = await own.run('exit 3')
    await containers.stop(id, 5)
    await containers.stop('e'.repeat(64), 5)
    expect((await containers.status(id)).exit_code).toBe(3)
  })

  it('ends every process of the container, also those that have left its session', async () => {
    const own = await pod()
    const id = await own.start({
      command: ['/bin/sh', '-c', 'setsid sleep 1000 & trap "exit 0" TERM; sleep 1000 & wait'],
    })
    await sleep(200)
    await daemon().client.containers.stop(id, 5)
    // What is left of it is what the check after each test finds.
    expect((await own.ended(id)).status.exit_code).toBe(0)
  })
})
