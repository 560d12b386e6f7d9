import { renameSync, existsSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { status as grpc } from '@grpc/grpc-js'
import { afterAll, describe, expect, it } from 'vitest'
import { SHIM_HANDLERS, sharedDaemon, type TestDaemon } from '../../support/daemon.ts'
import { DaemonStreams } from '../../support/daemon-streams.ts'
import { eventually } from '../../support/pod-facts.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon({ config: { timeouts: { remote: 1 } } })
const streams = new DaemonStreams(daemon)
afterAll(async () => streams[Symbol.asyncDispose]())

const sh = (script: string): { command: string[] } => ({ command: ['/bin/sh', '-c', script] })

async function shimOf({ client }: TestDaemon, podId: string): Promise<number> {
  const { shim } = (await client.info(podId)) as unknown as { shim: { pid: number } }
  expect(shim.pid).toBeGreaterThan(1)
  return shim.pid
}

/** A shim that is there, and says nothing. */
async function whileSilent(shim: number, work: () => Promise<void>): Promise<void> {
  process.kill(shim, 'SIGSTOP')
  try {
    await work()
  } finally {
    process.kill(shim, 'SIGCONT')
  }
}

describe.skipIf(SHIM_HANDLERS.length === 0).each(SHIM_HANDLERS)('containers at the Task service of %s', (handler) => {
  const run = (config = daemon().hostPod()): Promise<TestPod> => TestPod.run(daemon(), handler, config)
  const state = async (id: string): Promise<string> => (await daemon().client.containers.status(id)).state

  it('are streamed to and from', async () => {
    const pod = await run()
    const id = await pod.start({ ...sh('echo ready; while read line; do echo "got $line"; done; exit 5'), stdin: true })
    const all = { stdin: true, stdout: true, stderr: true }
    const command = await streams.exec(id, ['/bin/sh', '-c', 'cat; echo err >&2; exit 3'], all, 'websocket')
    command.stdin?.end('in')
    expect(await Promise.all([command.stdout && text(command.stdout), command.stderr && text(command.stderr)])).toEqual(
      ['in', 'err\n'],
    )
    expect(await command.status).toMatchObject({ details: { causes: [{ message: '3' }] } })

    const terminal = await streams.exec(
      id,
      ['/bin/sh', '-c', 'read x; stty size; tty'],
      { ...all, stderr: false, tty: true },
      'spdy',
    )
    terminal.resize({ width: 91, height: 17 })
    await sleep(300)
    terminal.stdin?.write('\n')
    expect(terminal.stdout && (await text(terminal.stdout))).toMatch(/17 91\r\n\/dev\/pts\/\d+\r\n$/)

    const attached = await streams.attach(id, all, 'websocket')
    attached.stdin?.write('first\n')
    await expect.poll(async () => (await daemon().client.containers.status(id)).state).toBe('CONTAINER_RUNNING')
    attached.stdin?.write('second\n')
    const output = attached.stdout === null ? Promise.resolve('') : text(attached.stdout)
    await sleep(500)
    await daemon().client.containers.stop(id, 0)
    expect(await output).toContain('got first\ngot second\n')
    expect((await pod.ended(id)).stdout).toBe('ready\ngot first\ngot second\n')
  })

  it('are measured like others', async () => {
    const pod = await run(daemon().pod())
    const id = await pod.start(sh('while :; do :; done'))
    await sleep(300)
    const { stats } = daemon().client
    const container = await stats.container(id)
    expect(Number(container.cpu?.usage_core_nano_seconds?.value)).toBeGreaterThan(10_000_000)
    expect(Number(container.memory?.working_set_bytes?.value)).toBeGreaterThan(0)
    const { linux } = await stats.pod(pod.id)
    expect(linux?.containers.map(({ attributes }) => attributes?.id)).toEqual([id])
    expect(Number(linux?.cpu?.usage_core_nano_seconds?.value)).toBeGreaterThan(10_000_000)
    expect(Number(linux?.network?.default_interface?.rx_bytes?.value)).toBeGreaterThanOrEqual(0)
    const [metrics] = await stats.metrics()
    expect(metrics?.container_metrics.map(({ container_id }) => container_id)).toContain(id)
  })

  it('lose no line of their logs to restarts of the daemon and new log files', async () => {
    const pod = await run()
    const id = await pod.start(sh('i=0; while [ ! -e /end ]; do i=$((i+1)); echo line $i; usleep 1000; done'))
    for (let round = 0; round < 2; round++) {
      expect(await daemon().stop()).toBe(0)
      await daemon().restart()
      await sleep(100)
    }
    await daemon().client.containers.shell(id, 'touch /end')
    const { stdout, status } = await pod.ended(id, 60_000)
    const count = stdout.split('\n').length - 1
    expect(count).toBeGreaterThan(100)
    expect(stdout).toBe(Array.from({ length: count }, (_, index) => `line ${index + 1}\n`).join(''))
    expect(status).toMatchObject({ exit_code: 0, reason: 'Completed' })

    const second = await pod.start(
      sh('trap "exit 0" TERM; echo old; while [ ! -e /go ]; do usleep 10000; done; echo new; sleep 1000 & wait'),
    )
    const { log_path: log } = await daemon().client.containers.status(second)
    await expect.poll(() => existsSync(log)).toBe(true)
    renameSync(log, `${log}.1`)
    await daemon().client.containers.reopenLog(second)
    await daemon().client.containers.shell(second, 'touch /go')
    await daemon().client.containers.stop(second, 5)
    expect((await pod.ended(second)).stdout).toContain('new\n')
  })

  it('cannot be checkpointed', async () => {
    const pod = await run()
    const id = await pod.start()
    const outcome = daemon().client.containers.checkpoint(id, `${daemon().dir}/checkpoint.tar`)
    await expect(outcome).rejects.toMatchObject({ code: expect.toSatisfy(isRefusal) as unknown })
    expect(await state(id)).toBe('CONTAINER_RUNNING')
  })

  it.each(['while we look', 'while we are away'])('end with their shim when that is killed %s', async (when) => {
    const pod = await run()
    const running = await pod.start()
    const created = await pod.create()
    const { id: exited } = await pod.run('exit 7')
    const { pid } = await daemon().client.containers.info(running)
    const shim = await shimOf(daemon(), pod.id)
    if (when === 'while we are away') await daemon().kill9()
    process.kill(shim, 'SIGKILL')
    if (when === 'while we are away') await daemon().restart()
    for (const id of [running, created]) {
      const seen = await eventually(() => daemon().client.containers.status(id), isExited, 20_000)
      expect(seen).toMatchObject({ state: 'CONTAINER_EXITED', exit_code: 255 })
    }
    expect(existsSync(`/proc/${pid}/ns/mnt`)).toBe(false)
    expect(await daemon().client.containers.status(exited)).toMatchObject({ exit_code: 7, reason: 'Error' })
    await expect
      .poll(async () => (await daemon().client.status(pod.id)).state, { timeout: 10_000 })
      .toBe('SANDBOX_NOTREADY')
    await daemon().client.containers.remove(running)
    // The others go with their pod.
    await daemon().removeListed()
    await daemon().expectNothingLeft()
  })

  it('stay what they are while their shim does not answer, and hold up no other', async () => {
    const [silent, other] = await Promise.all([run(), run()])
    const id = await silent.start()
    const shim = await shimOf(daemon(), silent.id)
    const { containers } = daemon().client
    await whileSilent(shim, async () => {
      const stopped = containers.stop(id, 1).then(
        () => grpc.OK,
        (error: unknown) => (error as { code: number }).code,
      )
      const began = performance.now()
      const another = await other.start()
      await containers.shell(another, 'true')
      await containers.stop(another, 5)
      await containers.remove(another)
      expect(await state(id)).toBe('CONTAINER_RUNNING')
      const tookMs = performance.now() - began
      expect(await stopped).toSatisfy(isRefusal)
      expect(await state(id)).toBe('CONTAINER_RUNNING')
      expect(tookMs).toBeLessThan(20_000)
    })
    // What it was asked for may be done by now, or not.
    await containers.stop(id, 5)
    expect((await silent.ended(id)).status).toMatchObject({ exit_code: 0 })
  })

  it('are recovered when their shim answers again, and nobody else waits for that', async () => {
    const [silent, other] = await Promise.all([run(), run()])
    const ids = await Promise.all([silent.start(), silent.start()])
    const beside = await other.start()
    const shim = await shimOf(daemon(), silent.id)
    await daemon().kill9()
    await whileSilent(shim, async () => {
      await daemon().launch()
      await expect.poll(() => daemon().client.containers.shell(beside, 'echo here'), { timeout: 20_000 }).toBe('here')
      for (const id of ids) expect(await state(id)).toBe('CONTAINER_RUNNING')
      await daemon().recovered()
      for (const id of ids) expect(await state(id)).toBe('CONTAINER_RUNNING')
    })
    for (const id of ids) expect(await daemon().client.containers.shell(id, 'echo here')).toBe('here')
    // Their ends are watched for again.
    for (const id of ids) process.kill((await daemon().client.containers.info(id)).pid, 'SIGKILL')
    for (const id of ids) expect((await silent.ended(id)).status).toMatchObject({ exit_code: 137 })
  })
})

function isRefusal(code: number): boolean {
  return [grpc.UNAVAILABLE, grpc.DEADLINE_EXCEEDED, grpc.FAILED_PRECONDITION, grpc.UNIMPLEMENTED].includes(code)
}

function isExited({ state }: { readonly state: string }): boolean {
  return state === 'CONTAINER_EXITED'
}
