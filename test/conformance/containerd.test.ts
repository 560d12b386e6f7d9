import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { commandLine, readStat } from '../../src/host/process.ts'
import type { TestContainerd } from '../support/containerd.ts'
import { CONTAINERD, expectFiles, HANDLERS, startContainerd, WITH_FILES } from '../support/containerd-pods.ts'
import { DaemonStreams, type Transport } from '../support/daemon-streams.ts'
import { namespaceOf } from '../support/pod-facts.ts'
import { PodServer } from '../support/pod-server.ts'
import { exitCode } from '../support/streaming-client.ts'
import { TestPod } from '../support/test-pod.ts'

const WAIT = { timeout: 20_000, interval: 50 }
const MIB = 1024 * 1024
// Those of the project are for critest.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 90_000 })

describe.skipIf(CONTAINERD === undefined).each(HANDLERS)('a pod of containerd, its sandboxer being %s', (handler) => {
  let containerd: TestContainerd
  let streams: DaemonStreams
  beforeAll(async () => {
    containerd = await startContainerd(handler)
    streams = new DaemonStreams(() => containerd)
  })
  afterEach(async () => {
    if (handler !== 'own' && !containerd.daemon.isRunning) await containerd.restartDaemon()
    await containerd.removeListed()
    await containerd.expectNothingLeft()
  })
  afterAll(async () => {
    await streams?.[Symbol.asyncDispose]()
    await containerd?.[Symbol.asyncDispose]()
  })

  const run = (config = containerd.pod({ hostname: 'web' })): Promise<TestPod> =>
    TestPod.run(containerd, handler, config)

  it('runs containers through their whole life', async () => {
    const { client } = containerd
    const pod = await run()
    const status = await client.status(pod.id)
    expect(status).toMatchObject({ state: 'SANDBOX_READY', runtime_handler: handler })
    const id = await pod.create({ command: ['/bin/sh', '-c', 'trap "exit 7" TERM; echo up; sleep 1000 & wait'] })
    expect((await client.containers.status(id)).state).toBe('CONTAINER_CREATED')
    await client.containers.start(id)
    expect(await client.containers.status(id)).toMatchObject({ state: 'CONTAINER_RUNNING', exit_code: 0 })
    expect(await client.containers.shell(id, 'hostname')).toBe('web')
    expect(await client.containers.shell(id, 'ip -4 -o addr show eth0')).toContain(status.network?.ip ?? 'no address')
    expect(await client.containers.exec(id, ['/bin/sh', '-c', 'echo out; echo err >&2; exit 3'])).toEqual({
      exitCode: 3,
      stdout: 'out\n',
      stderr: 'err\n',
    })
    await client.containers.stop(id, 20)
    const ended = await pod.ended(id)
    expect(ended.status).toMatchObject({ exit_code: 7, reason: 'Error' })
    expect(ended.stdout).toBe('up\n')
    await client.containers.remove(id)
    expect(await client.containers.list({ pod_sandbox_id: pod.id })).toEqual([])
    await client.stop(pod.id)
    expect((await client.status(pod.id)).state).toBe('SANDBOX_NOTREADY')
    await client.remove(pod.id)
    await client.stop(pod.id)
    await client.remove(pod.id)
    expect(await client.list()).toEqual([])
  })

  it('says how each container ended', async () => {
    const pod = await run()
    expect((await pod.run('exit 0')).status).toMatchObject({ exit_code: 0, reason: 'Completed' })
    expect((await pod.run('exit 42')).status).toMatchObject({ exit_code: 42, reason: 'Error' })
    const killed = await pod.start()
    await containerd.client.containers.stop(killed, 0)
    expect((await pod.ended(killed)).status).toMatchObject({ exit_code: 137, reason: 'Error' })
    const memory = { memory_limit_in_bytes: String(24 * MIB) }
    expect((await pod.run('exec tail /dev/zero', { resources: memory })).status).toMatchObject({
      exit_code: 137,
      reason: 'OOMKilled',
    })
    const missing = await pod.create({ command: ['/no/such/program'] })
    await expect(containerd.client.containers.start(missing)).rejects.toThrow('/no/such/program')
  })

  it('measures containers, and gives them other limits', async () => {
    const pod = await run()
    const { client } = containerd
    const id = await pod.start({ resources: { memory_limit_in_bytes: String(64 * MIB) } })
    const { cpu, memory, attributes } = await client.stats.container(id)
    expect(attributes?.id).toBe(id)
    expect(Number(cpu?.usage_core_nano_seconds?.value)).toBeGreaterThan(0)
    expect(Number(memory?.working_set_bytes?.value)).toBeGreaterThan(0)
    const ofPod = await client.stats.pod(pod.id)
    expect(ofPod.linux?.containers.map((of) => of.attributes?.id)).toEqual([id])
    expect(ofPod.linux?.network?.default_interface?.name).toBe('eth0')
    await client.containers.update(id, { memory_limit_in_bytes: String(48 * MIB) })
    const { resources } = await client.containers.status(id)
    expect(resources?.linux?.memory_limit_in_bytes).toBe(String(48 * MIB))
  })

  it.each<Transport>(['spdy', 'websocket'])('carries sessions over %s', async (transport) => {
    const pod = await run()
    const id = await pod.start({ command: ['/bin/sh'], stdin: true })
    const all = { stdin: true, stdout: true, stderr: true }
    // Not every protocol can tell of the end of the input.
    const plain = await streams.exec(id, ['/bin/sh', '-c', 'head -c 7; echo err >&2; exit 5'], all, transport)
    plain.stdin?.write('through')
    expect(await text(plain.stdout as Readable)).toBe('through')
    expect(exitCode(await plain.status)).toBe(5)
    await plain.close()

    const terminal = await streams.exec(id, ['/bin/sh'], { stdin: true, stdout: true, tty: true }, transport)
    const shown = follow(terminal.stdout)
    terminal.resize({ width: 100, height: 40 })
    await expect.poll(() => typed(terminal.stdin, 'busybox stty size', shown), WAIT).toMatch(/\b40 100\b/)
    terminal.stdin?.write('exit 6\n')
    expect(exitCode(await terminal.status)).toBe(6)
    await terminal.close()

    const attached = await streams.attach(id, all, transport)
    const printed = follow(attached.stdout)
    await expect.poll(() => typed(attached.stdin, 'echo sum $((20 + 3))', printed), WAIT).toContain('sum 23')
    attached.stdin?.write('exit 9\n')
    expect((await pod.ended(id)).status.exit_code).toBe(9)
    await attached.close()
  })

  it('forwards ports', async () => {
    const pod = await run()
    const pid = (await containerd.client.containers.info(await pod.start())).pid
    await using server = await PodServer.start(`/proc/${pid}/ns/net`, '127.0.0.1')
    const forward = await streams.portForward(pod.id, 'spdy')
    const { data } = forward.connect(server.port)
    data.end('to the pod and back')
    expect(await text(data)).toBe('to the pod and back')
    await forward.close()
  })

  it('runs on the network of the node', async () => {
    const pod = await run(containerd.hostPod())
    const id = await pod.start()
    const { pid } = await containerd.client.containers.info(id)
    expect(namespaceOf(pid, 'net')).toBe(namespaceOf(containerd.daemon.isRunning ? containerd.daemon.pid : pid, 'net'))
    expect(await containerd.client.containers.shell(id, 'ip -o link')).toContain('br-test')
  })

  it('shares namespaces as it is asked to', async () => {
    const shared = { linux: { security_context: { namespace_options: { pid: 'POD' as const } } } }
    const pod = await run(containerd.pod(shared))
    const [one, other] = [await pod.start(), await pod.start()]
    const pids = await Promise.all([one, other].map(async (id) => (await containerd.client.containers.info(id)).pid))
    const [first = 0, second = 0] = pids
    for (const kind of ['net', 'ipc', 'uts', 'pid'] as const) {
      expect(namespaceOf(first, kind), kind).toBe(namespaceOf(second, kind))
      expect(namespaceOf(first, kind) === namespaceOf('self', kind), kind).toBe(false)
    }
    expect(namespaceOf(first, 'mnt')).not.toBe(namespaceOf(second, 'mnt'))
  })

  it('has the files of the pod in its containers', async () => {
    const pod = await run(containerd.pod(WITH_FILES))
    await expectFiles(containerd, pod)
  })

  it('is gone when it could not be started', async () => {
    const sysctls = { 'net.no.such_sysctl': '1' }
    await expect(run(containerd.pod({ linux: { sysctls } }))).rejects.toThrow()
    expect(await containerd.client.list()).toEqual([])
  })

  // containerd itself leaves the shim of such a pod behind.
  it.skipIf(handler === 'own')('is not ready when its pause process is killed, and can be removed', async () => {
    const pod = await run()
    const id = await pod.start()
    const { pid } = await containerd.client.info(pod.id)
    process.kill(pid, 'SIGKILL')
    const state = async (): Promise<string> => (await containerd.client.status(pod.id)).state
    await expect.poll(state, WAIT).toBe('SANDBOX_NOTREADY')
    // It has a PID namespace of its own, so nothing has ended it.
    expect((await containerd.client.containers.status(id)).state).toBe('CONTAINER_RUNNING')
  })

  it('ends with all its containers when its pause process holds their PID namespace', async () => {
    const pod = await run(containerd.pod({ linux: { security_context: { namespace_options: { pid: 'POD' } } } }))
    const id = await pod.start()
    const { pid } = await containerd.client.info(pod.id)
    process.kill(pid, 'SIGKILL')
    expect((await pod.ended(id)).status).toMatchObject({ exit_code: 137 })
  })

  it.skipIf(handler === 'own')('goes on without its sandboxer, which finds everything as it is', async () => {
    const pod = await run()
    const { client, daemon } = containerd
    const memory = { memory_limit_in_bytes: String(24 * MIB) }
    const eats = await pod.create({ command: ['/bin/sh', '-c', 'exec tail /dev/zero'], resources: memory })
    const id = await pod.start()
    await daemon.kill9()
    expect(await client.containers.shell(id, 'echo alive')).toBe('alive')
    await client.containers.start(eats)
    expect((await pod.ended(eats)).status).toMatchObject({ exit_code: 137, reason: 'OOMKilled' })
    await client.containers.stop(id, 20)
    expect((await pod.ended(id)).status).toMatchObject({ exit_code: 0, reason: 'Completed' })
    expect(await client.list()).toMatchObject([{ id: pod.id, state: 'SANDBOX_READY' }])
    await expect(client.stop(pod.id)).rejects.toThrow()
    await containerd.restartDaemon()
    expect(await pod.prints('echo back')).toBe('back')
    await client.stop(pod.id)
    expect((await client.status(pod.id)).state).toBe('SANDBOX_NOTREADY')
  })

  it.skipIf(handler === 'own')('leaves nothing behind when its shim is killed', async () => {
    const pod = await run()
    const id = await pod.start()
    const { pid } = await containerd.client.info(pod.id)
    const shim = readStat(pid)?.parentPid ?? 0
    expect(commandLine(shim).join(' ')).toContain(`-id ${pod.id}`)
    expect(containerd.shimSockets()).toHaveLength(1)
    process.kill(shim, 'SIGKILL')
    expect((await pod.ended(id)).status).toMatchObject({ exit_code: 255 })
    const state = async (): Promise<string> => (await containerd.client.status(pod.id)).state
    await expect.poll(state, WAIT).toBe('SANDBOX_NOTREADY')
  })

  it.skipIf(handler === 'own')('leaves nothing behind when its sandboxer is killed while it is made', async () => {
    for (const afterMs of [10, 40, 70, 110, 160]) {
      const made = run().then(
        () => true,
        () => false,
      )
      await sleep(afterMs)
      await containerd.daemon.kill9()
      await made
      await containerd.restartDaemon()
      await containerd.removeListed()
    }
  })
})

/** What has come up to now. */
function follow(stream: Readable | null): () => string {
  let all = ''
  stream?.on('data', (data: Buffer) => {
    all += data.toString()
  })
  return () => all
}

/** Types a line, which what runs there may not read yet, and says what has come. */
function typed(to: NodeJS.WritableStream | null, line: string, seen: () => string): string {
  to?.write(`${line}\n`)
  return seen()
}
