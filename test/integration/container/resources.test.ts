import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { cgroupFile } from '../../support/cgroup-files.ts'
import { SHIM_HANDLERS, sharedDaemon } from '../../support/daemon.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

const MIB = 1024 * 1024
const EAT = 'tail /dev/zero'
const limit = (mib: number): { memory_limit_in_bytes: string } => ({ memory_limit_in_bytes: String(mib * MIB) })

const pod = (handler = 'crun-pinned'): Promise<TestPod> => TestPod.run(daemon(), handler)

describe.each(['crun', 'runc-pinned', ...SHIM_HANDLERS])('a container without enough memory on %s', (handler) => {
  it('is OOMKilled when the kernel kills its first process', async () => {
    const own = await pod(handler)
    const { status } = await own.run(`exec ${EAT}`, { resources: limit(24) })
    expect(status).toMatchObject({ exit_code: 137, reason: 'OOMKilled' })
  })

  it('is not OOMKilled when it was another process, and it goes on to its own end', async () => {
    const own = await pod(handler)
    const { status, stdout } = await own.run(`${EAT}; echo "lost a child: $?"; exit 0`, { resources: limit(24) })
    expect(status).toMatchObject({ exit_code: 0, reason: 'Completed' })
    expect(stdout).toContain('lost a child: 137')
  })

  it('is not OOMKilled when it is killed for another reason after that', async () => {
    const own = await pod(handler)
    const id = await own.start({
      command: ['/bin/sh', '-c', `${EAT}; echo lost; while :; do sleep 1; done`],
      resources: limit(24),
    })
    const { containers } = daemon().client
    await expect
      .poll(() => containers.shell(id, 'ps | grep -c "tail /dev/zero$" || true'), { timeout: 10_000 })
      .toBe('0')
    await containers.stop(id, 0)
    expect((await own.ended(id)).status).toMatchObject({ exit_code: 137, reason: 'Error' })
  })
})

describe.each(['crun-pinned', 'runc-pinned', ...SHIM_HANDLERS])('the resources of a container on %s', (handler) => {
  it('are what was asked for, and can be changed while it runs', async () => {
    const own = await pod(handler)
    const resources = { ...limit(64), cpu_shares: '512', cpu_quota: '50000', cpu_period: '100000', cpuset_cpus: '0' }
    const id = await own.start({ resources })
    const { containers } = daemon().client
    const { pid } = await containers.info(id)
    const memory = (): string => cgroupFile(pid, 'memory.limit_in_bytes', 'memory.max')
    const quota = (): string => cgroupFile(pid, 'cpu.cfs_quota_us', 'cpu.max')
    expect(memory()).toBe(String(64 * MIB))
    expect(quota()).toMatch(/^50000( 100000)?$/)
    expect(cgroupFile(pid, 'cpuset.cpus')).toBe('0')
    expect((await containers.status(id)).resources?.linux).toMatchObject(resources)

    await containers.update(id, { ...limit(96), cpu_quota: '20000', cpu_period: '100000' })
    expect(memory()).toBe(String(96 * MIB))
    expect(quota()).toMatch(/^20000( 100000)?$/)
    expect(cgroupFile(pid, 'cpuset.cpus')).toBe('0')
    expect((await containers.status(id)).resources?.linux).toMatchObject({
      ...limit(96),
      cpu_quota: '20000',
      cpu_shares: '512',
      cpuset_cpus: '0',
    })
  })

  it('can be changed before it runs', async () => {
    const own = await pod(handler)
    const id = await own.create({ command: ['/bin/sleep', '1000'], resources: limit(64) })
    const { containers } = daemon().client
    await containers.update(id, limit(96))
    await containers.start(id)
    expect(cgroupFile((await containers.info(id)).pid, 'memory.limit_in_bytes', 'memory.max')).toBe(String(96 * MIB))
  })
})

describe('UpdateContainerResources', () => {
  it('is refused for one that has ended, that nobody knows, and for what makes no sense', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const { id } = await own.run('true')
    await expect(containers.update(id, limit(64))).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION })
    await expect(containers.update('9'.repeat(64), limit(64))).rejects.toMatchObject({ code: grpc.NOT_FOUND })
    const running = await own.start({ resources: limit(64) })
    await expect(containers.update(running, { cpuset_cpus: '900-' })).rejects.toThrow()
    expect((await containers.status(running)).resources?.linux?.memory_limit_in_bytes).toBe(String(64 * MIB))
    expect((await containers.status(running)).resources?.linux?.cpuset_cpus).toBe('')
  })
})

describe('UpdatePodSandboxResources', () => {
  it('is taken for a pod that is there', async () => {
    const own = await pod()
    await daemon().client.updatePod(own.id, limit(128))
    await expect(daemon().client.updatePod('8'.repeat(64), limit(128))).rejects.toMatchObject({ code: grpc.NOT_FOUND })
  })
})
