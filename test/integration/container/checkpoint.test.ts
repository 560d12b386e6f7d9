import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import type { ContainerConfig } from '../../../src/generated/runtime/v1/ContainerConfig.ts'
import type { PodSandboxConfig } from '../../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { parseLog, text } from '../../support/container-log.ts'
import { ownDaemons, sharedDaemon, type TestDaemon } from '../../support/daemon.ts'
import { TestPod } from '../../support/test-pod.ts'

const CRIU = process.env['SANDBOXERD_TEST_CRIU'] ?? '/usr/sbin/criu'
const WHY = whyNoCriu()
/** Counts in a variable that nothing but its memory has, and begins with a line that is printed once. */
const COUNTER = ['/bin/sh', '-c', 'echo begun; i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done']
const CHECKPOINTS = { checkpoint: { enabled: true, criu: CRIU } }

function whyNoCriu(): string | undefined {
  const { status, stderr, error } = spawnSync(CRIU, ['check'], { encoding: 'utf8' })
  if (status === 0) return undefined
  return `${CRIU} check: ${error?.message ?? stderr.trim().split('\n').at(-1) ?? `exit code ${status}`}`
}

let directories = 0
async function emptyDirectory(daemon: TestDaemon): Promise<string> {
  const path = join(daemon.dir, `checkpoint-${directories++}`)
  await mkdir(path, { mode: 0o700 })
  return path
}

async function numbers(daemon: TestDaemon, id: string): Promise<number[]> {
  const { log_path: path } = await daemon.client.containers.status(id)
  const lines = existsSync(path) ? text(parseLog(readFileSync(path, 'utf8')), 'stdout').split('\n') : []
  return lines.filter((line) => /^\d+$/.test(line)).map(Number)
}

/** The number that a counter has come to, once it has come further than `after`. */
async function counted(daemon: TestDaemon, id: string, after = 0): Promise<number> {
  let last = 0
  await expect
    .poll(async () => (last = (await numbers(daemon, id)).at(-1) ?? 0), { timeout: 15_000 })
    .toBeGreaterThan(after)
  return last
}

const stagesOf = (daemon: TestDaemon): string[] => {
  const path = join(daemon.dir, 'root', 'checkpoints')
  return existsSync(path) ? readdirSync(path) : []
}

describe('checkpoints, where the node cannot', () => {
  const off = ownDaemons()

  it('are refused by a daemon that does not allow them', async () => {
    const daemon = await off()
    const request = { pod_sandbox_id: 'x', output_path: '/x', container_ids: ['x'] }
    const expected = {
      code: grpc.FAILED_PRECONDITION,
      details: expect.stringContaining('checkpoint.enabled') as string,
    }
    await expect(daemon.client.checkpointPod(request)).rejects.toMatchObject(expected)
    await expect(daemon.client.restorePod({})).rejects.toMatchObject(expected)
    await expect(daemon.client.containers.checkpoint('x', '/x')).rejects.toMatchObject(expected)
  })

  it('are refused with the reason by a runtime without criu, without criu, and with one that does not work', async () => {
    const broken = '/tmp/criu-that-is-not-there/criu'
    const daemon = await off({ config: { checkpoint: { enabled: true, criu: broken } } })
    for (const [handler, why] of [
      ['crun-pinned', 'was built without criu'],
      ['runc-pinned', 'criu cannot be run on this node'],
    ] as const) {
      const pod = await TestPod.run(daemon, handler)
      const id = await pod.start({ command: COUNTER })
      const request = { pod_sandbox_id: pod.id, output_path: await emptyDirectory(daemon), container_ids: [id] }
      const expected = { code: grpc.FAILED_PRECONDITION, details: expect.stringContaining(why) as string }
      await expect(daemon.client.checkpointPod(request)).rejects.toMatchObject(expected)
      await expect(daemon.client.containers.checkpoint(id, join(daemon.dir, 'c.tar'))).rejects.toMatchObject(expected)
      const restore = { checkpoint_path: request.output_path, config: daemon.pod(), runtime_handler: handler }
      const container_configs = [await pod.containerConfig()]
      await expect(daemon.client.restorePod({ ...restore, container_configs })).rejects.toMatchObject(expected)
      await counted(daemon, id, await counted(daemon, id))
      expect(readdirSync(request.output_path)).toEqual([])
    }
    await daemon.removeListed()
  })
})

if (WHY !== undefined) {
  describe('checkpoints', () => {
    it.skip(`are not tested: ${WHY}`)
  })
}

/** A checkpoint of a pod, and what it takes to restore it. */
interface Checkpointed {
  readonly path: string
  readonly pod: TestPod
  readonly ids: readonly string[]
  readonly configs: readonly ContainerConfig[]
}

async function checkpointed(
  daemon: TestDaemon,
  parts: readonly Partial<ContainerConfig>[] = [{}],
): Promise<Checkpointed> {
  const pod = await TestPod.run(daemon, 'runc', daemon.pod({ hostname: 'before' }))
  const configs: ContainerConfig[] = []
  const ids: string[] = []
  for (const [at, part] of parts.entries()) {
    const config = await pod.containerConfig({ metadata: { name: `c${at}`, attempt: 0 }, command: COUNTER, ...part })
    const id = daemon.track(await daemon.client.containers.create(pod.id, config, pod.config))
    await daemon.client.containers.start(id)
    configs.push(config)
    ids.push(id)
  }
  for (const id of ids) await counted(daemon, id, 3)
  const path = await emptyDirectory(daemon)
  return { path, pod, ids, configs }
}

async function checkpoint(daemon: TestDaemon, { path, pod, ids }: Checkpointed): Promise<void> {
  await daemon.client.checkpointPod({ pod_sandbox_id: pod.id, output_path: path, container_ids: [...ids] })
}

function restoreRequest(daemon: TestDaemon, { path, configs }: Checkpointed, part: Partial<PodSandboxConfig> = {}) {
  const config = daemon.pod({ hostname: 'after', ...part })
  const log_directory = join(daemon.dir, 'logs', config.metadata?.name ?? '')
  return {
    checkpoint_path: path,
    config: { ...config, log_directory },
    runtime_handler: 'runc',
    container_configs: [...configs],
  }
}

describe.skipIf(WHY !== undefined)('a pod that is checkpointed', () => {
  const daemon = sharedDaemon({ config: CHECKPOINTS })

  it('goes on, and so does its double from where it was', async () => {
    const { client } = daemon()
    const source = await checkpointed(daemon(), [{}, {}])
    const [first = '', second = ''] = source.ids
    await client.containers.shell(first, 'echo kept > /kept; ln -s /kept /link; rm /bin/true; rm -r /tmp; mkdir /tmp')
    const atLeast = await counted(daemon(), first)
    await checkpoint(daemon(), source)
    for (const id of source.ids) await counted(daemon(), id, await counted(daemon(), id))
    expect(readdirSync(source.path)).toEqual(['checkpoint.tar'])
    expect(statSync(join(source.path, 'checkpoint.tar')).mode & 0o777).toBe(0o600)
    expect(stagesOf(daemon())).toEqual([])
    const atMost = await counted(daemon(), first)
    await daemon().removeListed()

    const request = restoreRequest(daemon(), source)
    const restored = await client.restorePod(request)
    daemon().track(restored.pod_sandbox_id)
    expect(restored.restored_containers.map(({ name }) => name)).toEqual(['c0', 'c1'])
    expect(stagesOf(daemon())).toEqual([])
    const [copy = '', other = ''] = restored.restored_containers.map(({ container_id: id }) => daemon().track(id))
    expect(new Set([first, second, copy, other]).size).toBe(4)
    for (const id of [copy, other]) {
      expect((await client.containers.status(id)).state).toBe('CONTAINER_CREATED')
      expect((await client.containers.info(id)).pid).toBe(0)
    }

    // It is remembered, and still waits.
    await daemon().restart()
    expect((await daemon().client.containers.status(copy)).state).toBe('CONTAINER_CREATED')
    using events = daemon().client.events()
    for (const id of [copy, other]) await daemon().client.containers.start(id)
    const { containers } = daemon().client
    await counted(daemon(), copy, atLeast)
    const [next = 0] = await numbers(daemon(), copy)
    expect(next).toBeGreaterThan(atLeast)
    expect(next).toBeLessThanOrEqual(atMost + 1)
    expect((await containers.status(copy)).state).toBe('CONTAINER_RUNNING')
    expect(await containers.shell(copy, 'cat /link; hostname; ls /bin/true 2>/dev/null; ls /tmp')).toBe('kept\nafter')
    const cgroups = readFileSync(`/proc/${(await containers.info(copy)).pid}/cgroup`, 'utf8')
      .trim()
      .split('\n')
    expect(cgroups.filter((line) => line.includes(first))).toEqual([])
    expect(cgroups.filter((line) => line.includes(copy))).not.toEqual([])
    await expect
      .poll(() => events.events.map((event) => event.container_event_type))
      .toContain('CONTAINER_STARTED_EVENT')

    await daemon().restart()
    await counted(daemon(), copy, await counted(daemon(), copy))
    await daemon().client.containers.stop(copy, 0)
    expect(await daemon().client.containers.status(copy)).toMatchObject({ state: 'CONTAINER_EXITED', exit_code: 137 })
    await daemon().client.containers.remove(copy)
  })

  it('is not restored from what was changed, with what does not fit, or a second time; nothing is left', async () => {
    const { client } = daemon()
    const source = await checkpointed(daemon())
    await checkpoint(daemon(), source)
    const before = await client.list()
    const request = restoreRequest(daemon(), source)
    const [config] = source.configs
    if (!config) throw new Error('there is no configuration')
    const wrong: [string, object, number][] = [
      [
        'container_configs[0].command',
        { container_configs: [{ ...config, command: ['/bin/true'] }] },
        grpc.INVALID_ARGUMENT,
      ],
      [
        'container_configs',
        { container_configs: [{ ...config, metadata: { name: 'x', attempt: 0 } }] },
        grpc.INVALID_ARGUMENT,
      ],
      ['runtime_handler', { runtime_handler: 'nobody' }, grpc.NOT_FOUND],
      ['checkpoint_path', { checkpoint_path: daemon().dir }, grpc.NOT_FOUND],
      // The pod is made and taken back.
      ['log_path', { container_configs: [{ ...config, log_path: '../../out.log' }] }, grpc.INVALID_ARGUMENT],
    ]
    for (const [details, change, code] of wrong) {
      const attempt = client.restorePod({ ...request, ...change })
      await expect(attempt).rejects.toMatchObject({ code, details: expect.stringContaining(details) as string })
    }
    const linked = await emptyDirectory(daemon())
    symlinkSync(join(source.path, 'checkpoint.tar'), join(linked, 'checkpoint.tar'))
    const attempt = client.restorePod({ ...request, checkpoint_path: linked })
    await expect(attempt).rejects.toMatchObject({ code: grpc.INVALID_ARGUMENT })
    expect(await client.list()).toEqual(before)

    const {
      pod_sandbox_id: id,
      restored_containers: [container],
    } = await client.restorePod(request)
    daemon().track(id)
    await expect(client.restorePod(request)).rejects.toMatchObject({ code: grpc.ALREADY_EXISTS })
    await client.containers.start(daemon().track(container?.container_id ?? ''))
    await counted(daemon(), container?.container_id ?? '', 3)

    const archive = join(source.path, 'checkpoint.tar')
    const bytes = readFileSync(archive)
    // In the memory of the process.
    const at = bytes.lastIndexOf('echo begun')
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
    writeFileSync(archive, bytes)
    const again = restoreRequest(daemon(), source)
    await expect(client.restorePod(again)).rejects.toMatchObject({ code: grpc.DATA_LOSS })
    truncateSync(archive, 100_000)
    await expect(client.restorePod(again)).rejects.toMatchObject({ code: grpc.DATA_LOSS })
    expect(await client.list()).toHaveLength(before.length + 1)
    expect(stagesOf(daemon())).toEqual([])
  })

  it('is left as it is by a checkpoint that fails', async () => {
    const { client } = daemon()
    const source = await checkpointed(daemon(), [{}, {}])
    const [first = '', second = ''] = source.ids
    const attempt = (part: object) =>
      client.checkpointPod({ pod_sandbox_id: source.pod.id, output_path: source.path, container_ids: [first], ...part })
    writeFileSync(join(daemon().dir, 'file'), '')
    symlinkSync(source.path, join(daemon().dir, 'link'))
    for (const place of ['file', 'link', 'missing', 'root']) {
      const refused = { code: grpc.INVALID_ARGUMENT, details: expect.stringContaining('output_path') as string }
      await expect(attempt({ output_path: join(daemon().dir, place) })).rejects.toMatchObject(refused)
    }
    await expect(attempt({ container_ids: ['0000'] })).rejects.toMatchObject({ code: grpc.NOT_FOUND })
    const other = await TestPod.run(daemon(), 'runc-pinned')
    const stranger = await other.start()
    await expect(attempt({ container_ids: [stranger] })).rejects.toMatchObject({ code: grpc.INVALID_ARGUMENT })

    // Neither of the two is checkpointed when one cannot be.
    await client.containers.shell(second, 'mknod /disk b 8 0')
    const refused = { code: grpc.FAILED_PRECONDITION, details: expect.stringContaining('"disk" is a device') as string }
    await expect(attempt({ container_ids: [first, second] })).rejects.toMatchObject(refused)
    await client.containers.stop(second)
    await expect(attempt({ container_ids: [first, second] })).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION })
    expect(readdirSync(source.path)).toEqual([])
    expect(stagesOf(daemon())).toEqual([])
    await counted(daemon(), first, await counted(daemon(), first))
  })

  it('is not waited for by whoever stops it, and goes on when nobody waits for its checkpoint', async () => {
    const source = await checkpointed(daemon(), [{}, {}])
    const [first = '', second = ''] = source.ids
    await daemon().restart('container-checkpoint.frozen=hang')
    const { client } = daemon()
    const request = { pod_sandbox_id: source.pod.id, output_path: source.path, container_ids: [...source.ids] }
    const attempt = client.checkpointPod(request, { timeoutMs: 1000 })
    await expect(attempt).rejects.toMatchObject({ code: grpc.DEADLINE_EXCEEDED })
    await counted(daemon(), first, await counted(daemon(), first))
    await expect.poll(() => stagesOf(daemon())).toEqual([])
    const interrupted = client.checkpointPod(request)
    const refused = expect(interrupted).rejects.toMatchObject({ code: grpc.ABORTED })
    await expect.poll(() => stagesOf(daemon())).toHaveLength(1)
    await client.containers.stop(second, 0)
    await refused
    await counted(daemon(), first, await counted(daemon(), first))
    expect([...stagesOf(daemon()), ...readdirSync(source.path)]).toEqual([])
    await daemon().restart()
  })

  it('has a double that tells why it cannot start, and leaves nothing', async () => {
    const { client } = daemon()
    const source = await checkpointed(daemon())
    await checkpoint(daemon(), source)
    const { pod_sandbox_id: id, restored_containers: restored } = await client.restorePod(
      restoreRequest(daemon(), source),
    )
    daemon().track(id)
    const container = daemon().track(restored[0]?.container_id ?? '')
    const images = join(daemon().dir, 'root', 'containers', container, 'images')
    truncateSync(join(images, 'pstree.img'), 4)
    const refused = { code: grpc.FAILED_PRECONDITION, details: expect.stringContaining('restore container') as string }
    await expect(client.containers.start(container)).rejects.toMatchObject(refused)
    const { state, message } = await client.containers.status(container)
    expect(state).toBe('CONTAINER_EXITED')
    expect(message).toContain('restore container')
    await client.containers.remove(container)
  })

  it('is thawed, and what it was to be written to removed, by the daemon after one that died', async () => {
    const source = await checkpointed(daemon())
    const [id = ''] = source.ids
    for (const place of ['frozen', 'copied']) {
      await daemon().restart(`container-checkpoint.${place}=kill`)
      await expect(checkpoint(daemon(), source)).rejects.toMatchObject({ code: grpc.UNAVAILABLE })
      await daemon().ended()
      expect(stagesOf(daemon())).toHaveLength(1)
      expect(readdirSync(source.path)).toHaveLength(place === 'copied' ? 1 : 0)
      const last = (await lastNumber(daemon(), source)) ?? 0
      await daemon().restart()
      await counted(daemon(), id, last)
      await expect.poll(() => [...stagesOf(daemon()), ...readdirSync(source.path)]).toEqual([])
    }
  })

  it('has containers that are checkpointed alone, to a file', async () => {
    const { client } = daemon()
    const source = await checkpointed(daemon())
    const [id = ''] = source.ids
    const location = join(source.path, 'c.tar')
    await client.containers.checkpoint(id, location)
    await client.containers.checkpoint(id, location)
    expect(readdirSync(source.path)).toEqual(['c.tar'])
    expect(statSync(location).mode & 0o777).toBe(0o600)
    const members = execFileSync('/usr/bin/tar', ['--list', `--file=${location}`], { encoding: 'utf8' }).split('\n')
    expect(members).toEqual(
      expect.arrayContaining(['checkpoint/inventory.img', 'config.dump', 'rootfs-diff.tar', 'spec.dump']),
    )
    const link = join(source.path, 'link.tar')
    symlinkSync('/nowhere', link)
    await expect(client.containers.checkpoint(id, link)).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION })
    await counted(daemon(), id, await counted(daemon(), id))
  })
})

/** Of a log at its place, without asking the daemon. */
async function lastNumber(daemon: TestDaemon, { pod }: Checkpointed): Promise<number | undefined> {
  const path = join(daemon.dir, 'logs', pod.config.metadata?.name ?? '', 'c0.log')
  return text(parseLog(readFileSync(path, 'utf8')), 'stdout')
    .split('\n')
    .filter((line) => /^\d+$/.test(line))
    .map(Number)
    .at(-1)
}
