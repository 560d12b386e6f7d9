import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import type { ContainerConfig } from '../../../src/generated/runtime/v1/ContainerConfig.ts'
import { containing } from '../../support/cni-plugins/containing.ts'
import { ownDaemons, sharedDaemon } from '../../support/daemon.ts'
import { type ContainerPart, TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()
const start = ownDaemons()

const pod = (): Promise<TestPod> => TestPod.run(daemon())

describe('CreateContainer', () => {
  it('gives the id of the container that there is to whoever asks for the same again', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const config = await own.containerConfig()
    const create = async (): Promise<string> => daemon().track(await containers.create(own.id, config, own.config))
    const id = await create()
    expect(await create()).toBe(id)
    expect(await containers.list()).toHaveLength(1)
  })

  it('refuses another container of the same name', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const config = await own.containerConfig()
    daemon().track(await containers.create(own.id, config, own.config))
    const other = containers.create(own.id, { ...config, labels: { other: 'yes' } }, own.config)
    await expect(other).rejects.toMatchObject({ code: grpc.ALREADY_EXISTS })
    const next = { ...config, metadata: { ...config.metadata, attempt: 1 } }
    daemon().track(await containers.create(own.id, next, own.config))
    expect(await containers.list()).toHaveLength(2)
  })

  it('joins the attempt that is under way', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const config = await own.containerConfig()
    const ids = await Promise.all(Array.from({ length: 10 }, () => containers.create(own.id, config, own.config)))
    expect(new Set(ids).size).toBe(1)
    daemon().track(ids[0] ?? '')
    expect(await containers.list()).toHaveLength(1)
  })

  it('says that there is no such pod, or no such image', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const config = await own.containerConfig()
    const id = 'a'.repeat(64)
    await expect(containers.create(id, config, own.config)).rejects.toMatchObject({
      code: grpc.NOT_FOUND,
      details: containing(id),
    })
    const absent = { ...config, image: { image: 'localhost/no/such:image' } }
    await expect(containers.create(own.id, absent, own.config)).rejects.toMatchObject({
      code: grpc.NOT_FOUND,
      details: containing('localhost/no/such:image'),
    })
    expect(await containers.list()).toEqual([])
  })

  it('goes on for the next caller when the first one leaves', async () => {
    const own = await start({ failpoints: 'container-create.save.before=1*delay(700)' })
    const mine = await TestPod.run(own)
    const config = await mine.containerConfig()
    const { containers } = own.client
    const first = containers.create(mine.id, config, mine.config, { timeoutMs: 200 })
    const id = await first.catch(async () => containers.create(mine.id, config, mine.config))
    own.track(id)
    expect(await containers.list()).toHaveLength(1)
    await own.removeListed()
  })
})

const BAD: readonly { readonly field: string; readonly part: ContainerPart }[] = [
  { field: 'metadata', part: { metadata: null } },
  { field: 'metadata.name', part: { metadata: { name: '', attempt: 0 } } },
  { field: 'metadata.name', part: { metadata: { name: 'a\nb', attempt: 0 } } },
  { field: 'log_path', part: { log_path: '../../../escape.log' } },
  { field: 'working_dir', part: { working_dir: 'not/absolute' } },
  { field: 'envs', part: { env: { 'A=B': 'c' } } },
  { field: 'envs', part: { env: { '': 'c' } } },
  { field: 'mounts', part: { mounts: [{ container_path: '', host_path: '/tmp' }] } },
  { field: 'mounts', part: { mounts: [{ container_path: '/x', host_path: 'relative' }] } },
  { field: 'mounts', part: { mounts: [{ container_path: '/x', host_path: '/tmp', recursive_read_only: true }] } },
  { field: 'devices', part: { devices: [{ container_path: '/dev/x', host_path: '/dev/null', permissions: 'q' }] } },
  { field: 'devices', part: { devices: [{ container_path: '/dev/x', host_path: '/no/such', permissions: 'r' }] } },
  { field: 'vendor.example/none=absent', part: { CDI_devices: [{ name: 'vendor.example/none=absent' }] } },
  { field: 'capabilities', part: { security: { capabilities: { add_capabilities: ['CAP_NO_SUCH'] } } } },
  { field: 'run_as_user', part: { security: { run_as_user: { value: '-5' } } } },
  { field: 'run_as_user', part: { security: { run_as_user: { value: '4294967296' } } } },
  { field: 'run_as_group', part: { security: { run_as_group: { value: '1' } } } },
  { field: 'supplemental_groups', part: { security: { supplemental_groups: ['-1'] } } },
  { field: 'cpuset_cpus', part: { resources: { cpuset_cpus: 'all of them' } } },
  { field: 'oom_score_adj', part: { resources: { oom_score_adj: '5000' } } },
]

describe('bad input to CreateContainer', () => {
  it.each(BAD)('is refused by the name of its field: $field ($part)', async ({ field, part }) => {
    const own = await pod()
    const { containers } = daemon().client
    const config: ContainerConfig = await own.containerConfig(part)
    const outcome = containers.create(own.id, config, own.config)
    await expect(outcome).rejects.toMatchObject({ details: containing(field) })
    const { code } = (await outcome.catch((error: unknown) => error)) as { code: number }
    expect([grpc.INVALID_ARGUMENT, grpc.NOT_FOUND, grpc.FAILED_PRECONDITION]).toContain(code)
    expect(await containers.list()).toEqual([])
    for (const place of ['root/containers', 'state/containers']) {
      expect(readdirSync(join(daemon().dir, place)), place).toEqual([])
    }
  })
})
