import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { loadCri } from '../../../src/grpc/load.ts'
import { type DaemonOptions, ownDaemons, type TestDaemon } from '../../support/daemon.ts'
import { FakeSandboxer } from '../../support/fake-sandboxer.ts'
import { eventually as within } from '../../support/pod-facts.ts'

const { PodSandboxConfig } = loadCri().runtime.v1

// A machine may be busy with other things.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })
const eventually = <T>(read: () => Promise<T>, isWanted: (value: T) => boolean): Promise<T> =>
  within(read, isWanted, 30_000)

const peers: FakeSandboxer[] = []
// Registered first, and so run last: what daemons have to release, they release at a peer that is there.
afterEach(async () => {
  for (const peer of peers.splice(0)) {
    await peer.close()
    await rm(join(peer.socketPath, '..'), { recursive: true, force: true })
  }
})
const startDaemon = ownDaemons()

/** A remote sandboxer, and a daemon whose handler `kata` is run by it. */
async function setUp(
  options: Omit<DaemonOptions, 'config'> & { readonly config?: object } = {},
  sandboxer: object = {},
): Promise<{ daemon: TestDaemon; peer: FakeSandboxer }> {
  const peer = await FakeSandboxer.start(join(await mkdtemp(join(tmpdir(), 'sbx-peer-')), 's.sock'))
  peers.push(peer)
  const daemon = await startDaemon({
    ...options,
    config: {
      runtimes: { kata: { sandboxer: 'far' } },
      sandboxers: { far: { address: `unix://${peer.socketPath}`, unreachable_grace: 2, ...sandboxer } },
      timeouts: { remote: 1, runtime: 2, stop_grace: 1, release: 3 },
      ...options.config,
    },
  })
  return { daemon, peer }
}

const READY = 'SANDBOX_READY'
const NOTREADY = 'SANDBOX_NOTREADY'

async function state(daemon: TestDaemon, id: string): Promise<string> {
  return (await daemon.client.status(id)).state
}

async function becomes(daemon: TestDaemon, id: string, wanted: string): Promise<void> {
  const seen = await eventually(
    () => state(daemon, id),
    (found) => found === wanted,
  )
  expect(seen).toBe(wanted)
}

async function removePods(daemon: TestDaemon, peer: FakeSandboxer, ...ids: string[]): Promise<void> {
  for (const id of ids) {
    await daemon.client.stop(id)
    await daemon.client.remove(id)
  }
  expect([...peer.sandboxes.keys()]).toEqual([])
}

describe('a pod of a remote sandboxer', () => {
  it('is run, shown, stopped and removed there', async () => {
    const { daemon, peer } = await setUp()
    const config = daemon.hostPod({ annotations: { 'io.example/a': 'b' }, hostname: 'h' })
    const id = await daemon.run(config, 'kata')

    const request = peer.sandboxes.get(id)?.request
    expect(request).toMatchObject({
      sandboxer: 'far',
      netns_path: '',
      annotations: { 'io.example/a': 'b' },
      options: { type_url: 'runtime.v1.PodSandboxConfig' },
      sandbox: {
        sandbox_id: id,
        runtime: { name: 'kata' },
        labels: { name: `${config.metadata?.name}_test_${config.metadata?.uid}_0` },
        sandboxer: 'far',
      },
    })
    expect(PodSandboxConfig.deserialize(request?.options?.value ?? Buffer.alloc(0))).toMatchObject({
      metadata: config.metadata,
      hostname: 'h',
      linux: { cgroup_parent: config.linux?.cgroup_parent },
    })
    expect([...peer.namespaces]).toEqual(['k8s.io'])
    expect(await state(daemon, id)).toBe(READY)
    expect(await daemon.client.info(id)).toMatchObject({
      sandboxer: 'far',
      pid: 4711,
      stale: false,
      remote: { taskAddress: `ttrpc+unix:///${id}`, version: 3, state: READY, pid: 4711 },
      ledger: expect.arrayContaining([
        expect.objectContaining({
          kind: 'controller',
          state: 'held',
          record: {
            sandboxer: 'far',
            record: expect.objectContaining({ id, taskAddress: `ttrpc+unix:///${id}` }) as unknown,
          },
        }),
      ]) as unknown,
    })

    await daemon.client.stop(id)
    expect(await state(daemon, id)).toBe(NOTREADY)
    expect((await daemon.client.info(id)).exit).toMatchObject({ code: 137, reason: 'Exited' })
    await removePods(daemon, peer, id)
  })

  it('has its network before it is created', async () => {
    const { daemon, peer } = await setUp()
    const id = await daemon.run(daemon.pod(), 'kata')
    const request = peer.sandboxes.get(id)?.request
    const { network } = await daemon.client.status(id)
    expect(existsSync(request?.netns_path ?? '')).toBe(true)
    const extension = request?.sandbox?.extensions['metadata']?.value.toString() ?? '{}'
    expect(JSON.parse(extension)).toMatchObject({
      Version: 'v1',
      Metadata: {
        ID: id,
        IP: network?.ip,
        NetNSPath: request?.netns_path,
        Config: { metadata: { namespace: 'test' } },
        CNIResult: {
          Interfaces: { eth0: { IPConfigs: [{ IP: network?.ip }], Sandbox: request?.netns_path } },
          Routes: [{ dst: '0.0.0.0/0' }],
        },
      },
    })
    await removePods(daemon, peer, id)
  })

  it('is created beside its network where the sandboxer does not want that first', async () => {
    const { daemon, peer } = await setUp({ failpoints: 'run.setupSandboxNetwork.after=hang' }, { network_first: false })
    const run = daemon.client.run(daemon.pod(), 'kata').catch((error: unknown) => error)
    await eventually(
      async () => peer.calls.some((call) => call.startsWith('Start')),
      (started) => started,
    )
    const [request] = [...peer.sandboxes.values()].map(({ request: sent }) => sent)
    expect(existsSync(request?.netns_path ?? '')).toBe(true)
    const extension = request?.sandbox?.extensions['metadata']?.value.toString() ?? '{}'
    expect(JSON.parse(extension)).toMatchObject({ Metadata: { IP: '', CNIResult: null } })
    await daemon.restart()
    await run
    expect(peer.sandboxes.size).toBe(0)
  })

  it('has a handler of several that share its sandboxer, and is told apart by the runtime type', async () => {
    const kata = { sandboxer: 'far', runtime_type: 'io.containerd.kata.v2' }
    const { daemon, peer } = await setUp({ config: { runtimes: { kata, other: { sandboxer: 'far' } } } })
    const ids = [await daemon.run(daemon.hostPod(), 'kata'), await daemon.run(daemon.hostPod(), 'other')]
    expect(ids.map((id) => peer.sandboxes.get(id)?.request.sandbox?.runtime)).toEqual([
      { name: 'io.containerd.kata.v2', options: null },
      { name: 'other', options: null },
    ])
    await removePods(daemon, peer, ...ids)
  })

  it('is not ready when it has ended by itself, with its exit status', async () => {
    const { daemon, peer } = await setUp()
    const id = await daemon.run(daemon.hostPod(), 'kata')
    peer.end(id, 7)
    await becomes(daemon, id, NOTREADY)
    expect((await daemon.client.info(id)).exit).toMatchObject({ code: 7, reason: 'Exited' })
    await removePods(daemon, peer, id)
  })
})

describe('RunPodSandbox at a remote sandboxer', () => {
  it.each([
    ['Create', status.INTERNAL],
    ['Create', status.NOT_FOUND],
    ['Start', status.UNAVAILABLE],
    ['Start', status.UNKNOWN],
  ] as const)('leaves nothing when %s fails with %i, and tells the peer so', async (method, code) => {
    const { daemon, peer } = await setUp()
    peer.failNext(method, code)
    const failed = daemon.run(daemon.pod(), 'kata')
    await expect(failed).rejects.toThrow(`fake ${status[code]}`)
    expect(peer.calls.filter((call) => call.startsWith('Shutdown'))).toHaveLength(1)
    expect([...peer.sandboxes.keys()]).toEqual([])
    expect(await daemon.client.list()).toEqual([])
  })

  it('goes on telling the peer when that does not take a Shutdown', async () => {
    const { daemon, peer } = await setUp()
    peer.failNext('Start', status.INTERNAL)
    peer.failNext('Shutdown', status.UNAVAILABLE, status.INTERNAL)
    await expect(daemon.run(daemon.hostPod(), 'kata')).rejects.toThrow('fake INTERNAL')
    await eventually(
      async () => peer.sandboxes.size,
      (size) => size === 0,
    )
    expect(peer.calls.filter((call) => call.startsWith('Shutdown'))).toHaveLength(3)
    for (const { id } of await daemon.client.list()) await removePods(daemon, peer, daemon.track(id))
  })

  it('removes what a Create that was given up has made after all', async () => {
    const { daemon, peer } = await setUp()
    peer.hang('Create')
    await expect(daemon.run(daemon.hostPod(), 'kata')).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED })
    peer.resume()
    await eventually(
      async () => peer.calls.filter((call) => call.startsWith('Shutdown')).length,
      (count) => count > 1,
    )
    await eventually(
      async () => peer.sandboxes.size,
      (size) => size === 0,
    )
    const [pod] = await daemon.client.list()
    if (pod) await daemon.client.remove(daemon.track(pod.id))
    expect(peer.sandboxes.size).toBe(0)
  })

  it('asks nothing of the peer when the network cannot be set up', async () => {
    const { daemon, peer } = await setUp({ failpoints: 'run.setupSandboxNetwork.after=error(no network)' })
    await expect(daemon.run(daemon.pod(), 'kata')).rejects.toThrow('no network')
    expect(peer.calls).toEqual([])
  })

  it('fails with a name when the peer is not there, and leaves what it may owe to be retried', async () => {
    const { daemon, peer } = await setUp()
    await peer.close()
    await expect(daemon.run(daemon.hostPod(), 'kata')).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringMatching(/sandboxer far: create sandbox [0-9a-f]{64}/) as unknown,
    })
    await peer.listen()
    for (const { id } of await daemon.client.list()) await removePods(daemon, peer, daemon.track(id))
  })
})

describe('a remote sandboxer that is lost', () => {
  it('takes its pods to pending, and back when it is there again', async () => {
    const { daemon, peer } = await setUp()
    const ids = [await daemon.run(daemon.hostPod(), 'kata'), await daemon.run(daemon.hostPod(), 'kata')]
    const local = await daemon.run(daemon.hostPod(), 'crun')
    for (let round = 0; round < 2; round++) {
      await peer.close()
      for (const id of ids) await becomes(daemon, id, NOTREADY)
      expect(await daemon.client.info(ids[0] ?? '')).toMatchObject({
        state: 'PENDING',
        stale: true,
        staleSince: expect.stringMatching(/^\d{4}-\d\d-\d\dT/) as unknown,
        lastError: expect.stringContaining('UNAVAILABLE') as unknown,
      })
      await expect(daemon.client.stop(ids[0] ?? '')).rejects.toMatchObject({ code: status.UNAVAILABLE })
      expect(await state(daemon, local)).toBe(READY)
      await peer.listen()
      for (const id of ids) await becomes(daemon, id, READY)
    }
    expect((await daemon.client.info(ids[0] ?? '')).exit).toBeNull()
    peer.end(ids[0] ?? '', 3)
    await becomes(daemon, ids[0] ?? '', NOTREADY)
    expect((await daemon.client.info(ids[0] ?? '')).exit).toMatchObject({ code: 3, reason: 'Exited' })
    await daemon.client.stop(local)
    await daemon.client.remove(local)
    await removePods(daemon, peer, ...ids)
  })

  it('may be away for a while: its pods stay ready, and what is known of them is marked as old', async () => {
    const { daemon, peer } = await setUp({}, { unreachable_grace: 3600 })
    const ids = [await daemon.run(daemon.hostPod(), 'kata'), await daemon.run(daemon.hostPod(), 'kata')]
    const stale = async (id: string, wanted: boolean): Promise<object> =>
      eventually(
        () => daemon.client.info(id),
        (found) => found.stale === wanted,
      )
    await peer.close()
    for (const id of ids) expect(await stale(id, true)).toMatchObject({ stale: true, state: 'RUNNING' })
    expect(await state(daemon, ids[0] ?? '')).toBe(READY)
    await daemon.restart()
    for (const id of ids) expect(await stale(id, true)).toMatchObject({ stale: true, state: 'RUNNING' })
    peer.end(ids[1] ?? '', 4)
    await peer.listen()
    await becomes(daemon, ids[1] ?? '', NOTREADY)
    expect((await daemon.client.info(ids[1] ?? '')).exit).toMatchObject({ code: 4, reason: 'Exited' })
    expect(await stale(ids[0] ?? '', false)).toMatchObject({ stale: false, state: 'RUNNING' })
    await removePods(daemon, peer, ...ids)
  })

  it('has an exit that happened meanwhile reported', async () => {
    const { daemon, peer } = await setUp()
    const id = await daemon.run(daemon.hostPod(), 'kata')
    await peer.close()
    await becomes(daemon, id, NOTREADY)
    peer.end(id, 9)
    await peer.listen()
    const info = await eventually(
      () => daemon.client.info(id),
      ({ exit }) => exit !== null,
    )
    expect(info).toMatchObject({ state: 'STOPPED', exit: { code: 9, reason: 'Exited' } })
    await removePods(daemon, peer, id)
  })

  it('may fail Wait with any code: no pod has ended, and no end is missed', async () => {
    const { daemon, peer } = await setUp()
    const codes = Array.from({ length: 16 }, (_, index) => index + 1)
    peer.failNext('Wait', ...codes)
    const ids = await Promise.all(codes.map(() => daemon.run(daemon.hostPod(), 'kata')))
    const waits = await eventually(
      async () => ids.filter((id) => peer.count('Wait', id) >= 2),
      (again) => again.length === ids.length && peer.failuresLeft('Wait') === 0,
    )
    expect(waits).toHaveLength(16)
    const infos = await Promise.all(ids.map((id) => daemon.client.info(id)))
    expect(infos.filter(({ exit, state: now }) => exit !== null || now !== 'RUNNING')).toEqual([])

    ids.forEach((id, index) => peer.end(id, index))
    for (const id of ids) await becomes(daemon, id, NOTREADY)
    const ended = await Promise.all(ids.map((id) => daemon.client.info(id)))
    expect(ended.map(({ exit }) => exit?.code)).toEqual(codes.map((code) => code - 1))
    await removePods(daemon, peer, ...ids)
  })

  it('may have forgotten a pod: it has ended, nobody knows how', async () => {
    const { daemon, peer } = await setUp()
    const id = await daemon.run(daemon.hostPod(), 'kata')
    await peer.close()
    peer.sandboxes.clear()
    await peer.listen()
    const info = await eventually(
      () => daemon.client.info(id),
      ({ exit }) => exit !== null,
    )
    expect(info).toMatchObject({ state: 'STOPPED', exit: { code: 255, reason: 'Unknown' } })
    await removePods(daemon, peer, id)
  })

  it('may hang: other pods do not wait for it, Stop ends in time, and works when it answers again', async () => {
    const { daemon, peer } = await setUp()
    const id = await daemon.run(daemon.pod(), 'kata')
    peer.hang('Stop', 'Status', 'Shutdown', 'Create')
    const stopped = daemon.client.stop(id, { timeoutMs: 30_000 }).then(
      () => undefined,
      (error: unknown) => error,
    )
    const local = await daemon.run(daemon.pod(), 'crun')
    await daemon.client.stop(local)
    await daemon.client.remove(local)
    expect(await daemon.client.list()).toHaveLength(1)
    expect(await stopped).toMatchObject({ code: status.DEADLINE_EXCEEDED })
    await becomes(daemon, id, NOTREADY)
    expect(await daemon.client.info(id)).toMatchObject({ state: 'PENDING', exit: null })
    peer.resume()
    await removePods(daemon, peer, id)
  })
})

describe('a remote sandboxer that accepts and never answers', () => {
  it('has nobody wait but those who ask it for something', async () => {
    const timeouts = { remote: 60, runtime: 60, stop_grace: 1, release: 60 }
    const { daemon, peer } = await setUp({ config: { timeouts, runtimes: { kata: { sandboxer: 'far' } } } })
    const other = await FakeSandboxer.start(join(peer.socketPath, '..', 'other.sock'))
    peers.push(other)
    const [stuck, removed] = [await daemon.run(daemon.hostPod(), 'kata'), await daemon.run(daemon.hostPod(), 'kata')]
    peer.hang('Create', 'Start', 'Stop', 'Status', 'Shutdown')
    let answers = 0
    const note = (): number => answers++
    const pending = [
      daemon.client.stop(stuck, { timeoutMs: 90_000 }).then(note, note),
      daemon.client.remove(removed, { timeoutMs: 90_000 }).then(note, note),
      daemon.client
        .run(daemon.hostPod(), 'kata')
        .then((id) => daemon.track(id))
        .then(note, note),
    ]
    const waiting = (): string[] => ['Stop', 'Create'].filter((method) => peer.calls.some((c) => c.startsWith(method)))
    await eventually(
      async () => waiting(),
      (methods) => methods.length === 2,
    )

    for (const handler of ['crun', 'crun-pinned']) {
      const id = await daemon.run(daemon.pod(), handler)
      expect(await state(daemon, id)).toBe(READY)
      await daemon.client.info(id)
      await daemon.client.stop(id)
      await daemon.client.remove(id)
    }
    expect((await daemon.client.list()).map(({ id }) => id)).toEqual(expect.arrayContaining([stuck, removed]))
    // What is asked about its own pods is answered from what is on record, and says so.
    expect(await daemon.client.info(stuck)).toMatchObject({
      stale: true,
      lastError: expect.stringContaining('no answer') as unknown,
      pid: 4711,
      remote: { taskAddress: `ttrpc+unix:///${stuck}` },
    })
    expect(answers).toBe(0)
    peer.resume()
    await Promise.all(pending)
    expect(answers).toBe(3)
    await daemon.removeListed()
    await eventually(
      async () => peer.sandboxes.size,
      (size) => size === 0,
    )
  })
})

describe('a daemon that comes back', () => {
  it('finds the pods of a remote sandboxer running, and what ended meanwhile', async () => {
    const { daemon, peer } = await setUp()
    const ids = [await daemon.run(daemon.pod(), 'kata'), await daemon.run(daemon.pod(), 'kata')]
    await daemon.kill9()
    peer.end(ids[1] ?? '', 5)
    await daemon.restart()
    await becomes(daemon, ids[1] ?? '', NOTREADY)
    expect((await daemon.client.info(ids[1] ?? '')).exit).toMatchObject({ code: 5, reason: 'Exited' })
    expect(await state(daemon, ids[0] ?? '')).toBe(READY)
    await removePods(daemon, peer, ...ids)
  })

  it('keeps pods whose sandboxer is not there, and has them ready when it is', async () => {
    const { daemon, peer } = await setUp()
    const id = await daemon.run(daemon.pod(), 'kata')
    await daemon.kill9()
    await peer.close()
    await daemon.restart()
    await becomes(daemon, id, NOTREADY)
    expect(await daemon.client.info(id)).toMatchObject({ state: 'PENDING', exit: null, quarantined: '' })
    await daemon.restart()
    await peer.listen()
    await becomes(daemon, id, READY)
    await removePods(daemon, peer, id)
  })

  it('knows where the Task service of a pod is, as the sandboxer has said last', async () => {
    const { daemon, peer } = await setUp()
    const id = await daemon.run(daemon.hostPod(), 'kata')
    await peer.close()
    await becomes(daemon, id, NOTREADY)
    peer.taskAddress = () => 'ttrpc+unix:///moved'
    await peer.listen()
    await becomes(daemon, id, READY)
    await daemon.kill9()
    await peer.close()
    await daemon.restart()
    const info = await daemon.client.info(id)
    expect(info).toMatchObject({ stale: true, remote: { taskAddress: 'ttrpc+unix:///moved', version: 3 } })
    await becomes(daemon, id, NOTREADY)
    await peer.listen()
    await becomes(daemon, id, READY)
    await removePods(daemon, peer, id)
  })

  it('shows pods of a sandboxer that was taken out of the configuration, removes them, and owes the rest', async () => {
    const { daemon, peer } = await setUp()
    const [kept, removed] = [await daemon.run(daemon.hostPod(), 'kata'), await daemon.run(daemon.pod(), 'kata')]
    const path = join(daemon.dir, 'config.toml')
    const config = await readFile(path, 'utf8')
    await daemon.kill9()
    await writeFile(path, config.replaceAll(/^\[(runtimes\.kata|sandboxers\.far)\]\n(.+\n)*/gm, ''))
    await daemon.restart()
    expect((await daemon.client.list()).map(({ id, state: now }) => [id, now])).toEqual([
      [removed, NOTREADY],
      [kept, NOTREADY],
    ])
    expect((await daemon.client.info(kept)).quarantined).toContain('sandboxer far: not one of shim, pinned')
    await daemon.client.stop(removed)
    await daemon.client.remove(removed)
    expect((await daemon.client.list()).map(({ id }) => id)).toEqual([kept])

    await daemon.kill9()
    await writeFile(path, config)
    await daemon.restart()
    await becomes(daemon, kept, READY)
    await eventually(
      async () => peer.sandboxes.has(removed),
      (there) => !there,
    )
    expect([...peer.sandboxes.keys()]).toEqual([kept])
    await removePods(daemon, peer, kept)
  })
})
