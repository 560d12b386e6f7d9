import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import type { PodSandboxConfig } from '../../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { readHostSecurity } from '../../../src/host/security.ts'
import { clampOomScoreAdj, SANDBOX_OOM_SCORE_ADJ } from '../../../src/oci/oom-score.ts'
import { containerCgroup } from '../../support/cgroup-driver.ts'
import { memoryCgroup } from '../../support/cgroup-files.ts'
import { sharedDaemon, type TestDaemon } from '../../support/daemon.ts'
import {
  addressesIn,
  eventually,
  inside,
  namespaceOf,
  type ProcessFacts,
  pinnedNamespace,
  processFacts,
} from '../../support/pod-facts.ts'

const daemon = sharedDaemon()
const host = readHostSecurity()

const HANDLERS = ['crun', 'runc', 'crun-pinned', 'runc-pinned']
const PLACES = HANDLERS.flatMap((handler) =>
  (['cni', 'host'] as const).map((network) => ({ handler, network, pinned: handler.endsWith('pinned') })),
)

function fullConfig(d: TestDaemon, network: 'cni' | 'host'): PodSandboxConfig {
  const plain = d.pod()
  return {
    ...plain,
    ...(network === 'cni' ? { hostname: 'my-host' } : {}),
    labels: { app: 'web', tier: 'front' },
    annotations: { 'example.com/note': 'kept as it is: ü' },
    linux: {
      ...plain.linux,
      ...(network === 'cni'
        ? { sysctls: { 'net.ipv4.ip_unprivileged_port_start': '80', 'kernel.shm_rmid_forced': '1' } }
        : {}),
      security_context: {
        namespace_options: { network: network === 'cni' ? 'POD' : 'NODE', pid: 'POD', ipc: 'POD' },
        run_as_user: { value: '1234' },
        run_as_group: { value: '2345' },
        supplemental_groups: ['3456'],
        seccomp: { profile_type: 'RuntimeDefault' },
      },
    },
  }
}

describe.each(PLACES)('the life of a pod on $handler with $network network', ({ handler, network }) => {
  it('begins, is seen, ends and leaves nothing', async () => {
    const { client } = daemon()
    const config = fullConfig(daemon(), network)
    const before = BigInt(Date.now()) * 1_000_000n
    const id = await daemon().run(config, handler)
    expect(id).toMatch(/^[0-9a-f]{64}$/)

    const status = await client.status(id)
    expect(status).toMatchObject({
      id,
      state: 'SANDBOX_READY',
      metadata: config.metadata,
      labels: config.labels,
      annotations: config.annotations,
      runtime_handler: handler,
      linux: { namespaces: { options: { network: network === 'cni' ? 'POD' : 'NODE', pid: 'POD', ipc: 'POD' } } },
    })
    expect(BigInt(status.created_at)).toBeGreaterThanOrEqual(before)
    const info = await client.info(id)
    expect(info).toMatchObject({ id, state: 'RUNNING', quarantined: '', checkpoint: { valid: true } })
    if (network === 'cni') {
      expect(await addressesIn(info.netnsPath)).toEqual([status.network?.ip])
      expect(pinnedNamespace(info.netnsPath, 'net')).toBe(namespaceOf(info.pid, 'net'))
    } else {
      expect(status.network?.ip).toBe('')
      expect(namespaceOf(info.pid, 'net')).toBe(namespaceOf(daemon().pid, 'net'))
    }

    await client.stop(id)
    expect((await client.status(id)).state).toBe('SANDBOX_NOTREADY')
    expect(existsSync(`/proc/${info.pid}/ns/net`)).toBe(false)
    const stopped = await client.info(id)
    expect(stopped).toMatchObject({ state: 'STOPPED', exit: { code: 0, reason: 'Exited' } })
    expect(BigInt(stopped.exit?.atNs ?? 0)).toBeGreaterThan(before)

    await client.remove(id)
    await expect(client.status(id)).rejects.toMatchObject({ code: grpc.NOT_FOUND })
    expect(await client.list()).toEqual([])
  })

  it('gives the pause process what the configuration asks for', async () => {
    const { client } = daemon()
    const config = fullConfig(daemon(), network)
    const id = await daemon().run(config, handler)
    const { pid } = await client.info(id)
    for (const kind of ['pid', 'ipc', 'mnt'] as const)
      expect(namespaceOf(pid, kind)).not.toBe(namespaceOf('self', kind))
    const ownUts = namespaceOf(pid, 'uts') !== namespaceOf('self', 'uts')
    expect(ownUts).toBe(network === 'cni')
    // The runtime is told to start it, and becomes it a moment later.
    const isFiltered = ({ seccompMode }: ProcessFacts): boolean => seccompMode === 2
    expect(await eventually(async () => processFacts(pid), isFiltered)).toMatchObject({
      uids: [1234, 1234, 1234, 1234],
      gids: [2345, 2345, 2345, 2345],
      groups: [2345, 3456],
      seccompMode: 2,
      noNewPrivileges: true,
      effectiveCapabilities: '0000000000000000',
      oomScoreAdj: clampOomScoreAdj(SANDBOX_OOM_SCORE_ADJ, host.oomScoreAdj, host.hasSysResource),
    })
    expect(memoryCgroup(pid)).toBe(containerCgroup(config.linux?.cgroup_parent ?? '', id, handler))
    const rootDir = join(daemon().dir, 'root', 'sandboxes', id)
    expect(readFileSync(join(rootDir, 'resolv.conf'), 'utf8')).toBe(readFileSync('/etc/resolv.conf', 'utf8'))
    if (network === 'host') return
    expect(await inside([`--uts=/proc/${pid}/ns/uts`], 'hostname')).toBe('my-host')
    expect(readFileSync(join(rootDir, 'hostname'), 'utf8')).toBe('my-host\n')
    expect(readFileSync(join(rootDir, 'hosts'), 'utf8')).toMatch(/^10\.64\.\d+\.\d+\s+my-host$/m)
    const sysctl = (name: string) =>
      inside([`--net=/proc/${pid}/ns/net`, `--ipc=/proc/${pid}/ns/ipc`], 'cat', `/proc/sys/${name}`)
    expect(await sysctl('net/ipv4/ip_unprivileged_port_start')).toBe('80')
    expect(await sysctl('kernel/shm_rmid_forced')).toBe('1')
    expect(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8').trim()).toBe('1024')
  })
})

describe.each(HANDLERS)('namespaces of the node on %s', (handler) => {
  it('are used where the pod asks for them', async () => {
    const namespace_options = { network: 'POD', pid: 'NODE', ipc: 'NODE' } as const
    const config = daemon().pod()
    const id = await daemon().run(
      { ...config, linux: { ...config.linux, security_context: { namespace_options } } },
      handler,
    )
    const { pid, netnsPath } = await daemon().client.info(id)
    if (handler.endsWith('pinned')) {
      expect(pid).toBe(0)
      expect((await addressesIn(netnsPath)).length).toBe(1)
    } else {
      expect(namespaceOf(pid, 'pid')).toBe(namespaceOf('self', 'pid'))
      expect(namespaceOf(pid, 'ipc')).toBe(namespaceOf('self', 'ipc'))
      expect(namespaceOf(pid, 'net')).toBe(pinnedNamespace(netnsPath, 'net'))
    }
    await daemon().client.stop(id)
    // Outside of a PID namespace of its own, a signal that comes before it has handlers ends it.
    expect([0, 130]).toContain((await daemon().client.info(id)).exit?.code)
  })
})

describe('ListPodSandbox', () => {
  it('finds by id, by the beginning of an id, by state and by labels, and streams the same', async () => {
    const { client } = daemon()
    const a = await daemon().run(daemon().hostPod({ labels: { app: 'a', zone: 'x' } }), 'crun-pinned')
    const b = await daemon().run(daemon().hostPod({ labels: { app: 'b', zone: 'x' } }), 'crun-pinned')
    const c = await daemon().run(daemon().hostPod({ labels: { app: 'b', zone: 'y' } }), 'crun-pinned')
    await client.stop(b)
    const ids = async (filter?: Parameters<typeof client.list>[0]): Promise<string[]> => {
      const listed = (await client.list(filter)).map(({ id }) => id)
      expect((await client.stream(filter)).map(({ id }) => id)).toEqual(listed)
      return listed
    }
    expect(await ids()).toEqual([c, b, a])
    expect(await ids({ id: a })).toEqual([a])
    expect(await ids({ id: b.slice(0, 12) })).toEqual([b])
    expect(await ids({ id: 'f'.repeat(64) })).toEqual([])
    expect(await ids({ state: { state: 'SANDBOX_READY' } })).toEqual([c, a])
    expect(await ids({ state: { state: 'SANDBOX_NOTREADY' } })).toEqual([b])
    expect(await ids({ label_selector: { zone: 'x' } })).toEqual([b, a])
    expect(await ids({ label_selector: { zone: 'x', app: 'a' } })).toEqual([a])
    expect(await ids({ label_selector: { zone: 'x' }, state: { state: 'SANDBOX_READY' }, id: a })).toEqual([a])
    expect(await ids({ label_selector: { zone: 'z' } })).toEqual([])
  })

  it('gives each pod a later creation time than the one before', async () => {
    for (let count = 0; count < 5; count++) await daemon().run(daemon().hostPod(), 'crun-pinned')
    const times = (await daemon().client.list()).map((pod) => BigInt(pod.created_at))
    expect(times).toEqual([...times].sort((x, y) => (x < y ? 1 : -1)))
    expect(new Set(times).size).toBe(5)
  })
})

describe('the verbose status', () => {
  it('tells all there is to know', async () => {
    const id = await daemon().run(daemon().pod())
    const info = await daemon().client.info(id)
    expect(info.pid).toBeGreaterThan(1)
    expect(info.ledger.map(({ kind, state }) => `${kind} ${state}`)).toEqual([
      'directory held',
      'directory held',
      'shm held',
      'netns held',
      'cni held',
      'controller held',
    ])
    expect(info.cniResult).toHaveLength(1)
    expect(info.checkpoint.hash).toMatch(/^[0-9a-f]{64}$/)
    expect(info.runtimeSpec?.linux.cgroupsPath).toContain(id)
    expect(info.steps.map(({ name }) => name).sort()).toEqual(
      [
        'createController',
        'createSandbox',
        'ensureSandboxImageExists',
        'prepareSandboxCheckpoint',
        'prepareSandboxData',
        'prepareSandboxKey',
        'recordIntent',
        'setupSandboxNetwork',
        'startController',
        'updateNetworkSettings',
        'updateSandboxConfig',
        'writeSandboxFiles',
      ].sort(),
    )
  })
})

describe('the default cgroup parent', () => {
  it('holds pods that name none', async () => {
    const config = { ...daemon().pod(), linux: null }
    const id = await daemon().run(config)
    const { pid } = await daemon().client.info(id)
    expect(memoryCgroup(pid)).toBe(containerCgroup('', id))
  })
})
