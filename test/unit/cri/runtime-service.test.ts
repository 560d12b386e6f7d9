import { type ServiceError, status } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import type { PodSandbox__Output } from '../../../src/generated/runtime/v1/PodSandbox.ts'
import { containerResources } from '../../support/fake-containers.ts'
import { podConfig } from '../../support/fake-sandboxes.ts'
import { ask, type CriServer, cri, fakeNode, startCri } from './cri-server.ts'

const MIB = 1024 * 1024

let server: CriServer
let cidrs: (readonly string[])[]

beforeEach(async () => {
  cidrs = []
  server = await startCri(
    fakeNode({
      cgroupDriver: 'systemd',
      runtimeHandlers: () => [{ name: 'crun', hasRecursiveReadOnlyMounts: true, hasUserNamespaces: false }],
      networkCondition: () => ({ isTrue: false, reason: 'NetworkPluginNotReady', message: 'no network in /etc/cni' }),
      verbose: () => ({ config: { root: '/r' }, bootTimeNs: 2n ** 60n }),
      updatePodCidrs: (given) => cidrs.push(given),
    }),
  )
})

afterEach(async () => await server[Symbol.asyncDispose]())

describe('Version', () => {
  it('answers whatever version the caller speaks', async () => {
    expect(await ask(server.client, 'Version', { version: 'v0\u0000!' })).toEqual({
      version: '0.1.0',
      runtime_name: 'sandboxerd',
      runtime_version: '1.2.3',
      runtime_api_version: 'v1',
    })
  })
})

describe('Status', () => {
  it('shows both conditions with their reasons, and the runtime handlers', async () => {
    const answer = await ask(server.client, 'Status', {})
    expect(answer).toEqual({
      status: {
        conditions: [
          { type: 'RuntimeReady', status: true, reason: '', message: '' },
          {
            type: 'NetworkReady',
            status: false,
            reason: 'NetworkPluginNotReady',
            message: 'no network in /etc/cni',
          },
        ],
      },
      runtime_handlers: [{ name: 'crun', features: { recursive_read_only_mounts: true, user_namespaces: false } }],
      features: { supplemental_groups_policy: true, user_namespaces_host_network: false, mount_options: false },
      info: {},
    })
  })

  it('adds each topic as JSON when verbose', async () => {
    const answer = await ask(server.client, 'Status', { verbose: true })
    expect(answer.info).toEqual({ config: '{"root":"/r"}', bootTimeNs: '"1152921504606846976"' })
  })
})

describe('RuntimeConfig and UpdateRuntimeConfig', () => {
  it('tells the cgroup driver', async () => {
    const answer = await ask(server.client, 'RuntimeConfig', {})
    expect(answer.linux?.cgroup_driver).toBe('SYSTEMD')
  })

  it('takes over pod CIDRs, and nothing when there are none', async () => {
    const update = (pod_cidr: string) =>
      ask(server.client, 'UpdateRuntimeConfig', { runtime_config: { network_config: { pod_cidr } } })
    await update('10.1.0.0/24,fd00:1::/64')
    await update('')
    expect(cidrs).toEqual([['10.1.0.0/24', 'fd00:1::/64']])
    for (const bad of ['10.1.0.0', '10.1.0.0/33', '10.1.0.0/24,', 'fd00::/129', '10.0.0.0/8/8', '10.0.0.0/+8']) {
      await expect(update(bad)).rejects.toMatchObject({
        code: status.INVALID_ARGUMENT,
        details: expect.stringMatching(/^runtime_config\.network_config\.pod_cidr: not a CIDR/) as string,
      })
    }
    expect(cidrs).toHaveLength(1)
  })
})

describe('RunPodSandbox', () => {
  it('hands the configuration over as it came and answers the id', async () => {
    const config = podConfig({ labels: { a: 'ä\u2028', toString: 'x' }, annotations: { n: '1\n2' } })
    const { pod_sandbox_id: id } = await ask(server.client, 'RunPodSandbox', { config, runtime_handler: 'crun' })
    const { metadata } = server.sandboxes.get(id)
    expect(metadata.config).toEqual(config)
    expect(metadata.runtimeHandler).toBe('crun')
  })

  it('refuses a bad request before any sandbox hears of it', async () => {
    const config = podConfig({ log_directory: '/var/../etc' })
    await expect(ask(server.client, 'RunPodSandbox', { config })).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: 'config.log_directory: must not contain "..": "/var/../etc"',
    })
    expect(server.sandboxes.calls).toEqual([])
  })

  it('passes on the code and the message of what went wrong', async () => {
    server.sandboxes.inTheWay = async () => {
      throw new CodedError('NotFound', 'choose a runtime for handler x: there is none')
    }
    const config = podConfig()
    await expect(ask(server.client, 'RunPodSandbox', { config })).rejects.toMatchObject({
      code: status.NOT_FOUND,
      details: 'choose a runtime for handler x: there is none',
    })
  })
})

describe('StopPodSandbox and RemovePodSandbox', () => {
  it('succeed for ids that nobody knows', async () => {
    const request = { pod_sandbox_id: 'never-was' }
    expect(await ask(server.client, 'StopPodSandbox', request)).toEqual({})
    expect(await ask(server.client, 'RemovePodSandbox', request)).toEqual({})
  })

  it('refuse an empty id, which would be the beginning of every id', async () => {
    server.sandboxes.add()
    for (const call of ['StopPodSandbox', 'RemovePodSandbox', 'PodSandboxStatus'] as const) {
      const attempt = ask(server.client, call, { pod_sandbox_id: '' })
      await expect(attempt, call).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
    }
    expect(server.sandboxes.calls).toEqual([])
  })
})

describe('PodSandboxStatus', () => {
  const options = { network: 'POD', pid: 'CONTAINER', ipc: 'NODE', target_id: '', userns_options: null } as const

  it('shows the sandbox with exact times and what the caller gave', async () => {
    const config = podConfig({
      labels: { a: 'b' },
      annotations: { c: 'd' },
      linux: {
        cgroup_parent: '',
        sysctls: {},
        overhead: null,
        resources: null,
        security_context: {
          namespace_options: options,
          selinux_options: null,
          run_as_user: { value: '9007199254740993' },
          run_as_group: null,
          readonly_rootfs: false,
          supplemental_groups: [],
          supplemental_groups_policy: 'Merge',
          privileged: false,
          seccomp: null,
          apparmor: null,
          seccomp_profile_path: '',
        },
      },
    })
    const { metadata } = server.sandboxes.add({ ips: ['10.88.0.2', 'fd00::2'] }, config, 'crun')
    const before = BigInt(Date.now()) * 1_000_000n
    const { timestamp, ...answer } = await ask(server.client, 'PodSandboxStatus', { pod_sandbox_id: metadata.id })
    expect(BigInt(timestamp)).toBeGreaterThanOrEqual(before)
    expect(answer).toEqual({
      status: {
        id: metadata.id,
        metadata: config.metadata,
        state: 'SANDBOX_READY',
        created_at: '1763692200123456790',
        network: { ip: '10.88.0.2', additional_ips: [{ ip: 'fd00::2' }] },
        linux: { namespaces: { options } },
        labels: { a: 'b' },
        annotations: { c: 'd' },
        runtime_handler: 'crun',
      },
      info: {},
      containers_statuses: [],
    })
  })

  it('shows all containers of the sandbox and of no other', async () => {
    const { metadata } = server.sandboxes.add()
    const [first, second] = [1, 2].map(() => server.containers.add({ metadata: { sandboxId: metadata.id } }))
    server.containers.add({ metadata: { sandboxId: 'another' } })
    const answer = await ask(server.client, 'PodSandboxStatus', { pod_sandbox_id: metadata.id })
    const ids = answer.containers_statuses.map(({ id }) => id)
    expect(ids).toEqual([second?.metadata.id, first?.metadata.id])
  })

  it('puts all that is known under one key when verbose, bigint exactly', async () => {
    const { metadata } = server.sandboxes.add()
    server.sandboxes.infoAnswer = { pid: 42, createdAtNs: 2n ** 63n - 1n }
    const request = { pod_sandbox_id: metadata.id.slice(0, 63), verbose: true }
    const answer = await ask(server.client, 'PodSandboxStatus', request)
    expect(answer.info).toEqual({ info: '{"createdAtNs":"9223372036854775807","pid":42}' })
    expect(server.sandboxes.calls[0]?.subject).toBe(metadata.id)
  })

  it('shows a quarantined sandbox as NOTREADY, and why only when verbose', async () => {
    const quarantined = 'checkpoint: hash does not match'
    const { metadata } = server.sandboxes.add({ quarantined })
    const request = { pod_sandbox_id: metadata.id }
    const brief = await ask(server.client, 'PodSandboxStatus', request)
    expect(brief.status?.state).toBe('SANDBOX_NOTREADY')
    expect(JSON.stringify(brief)).not.toContain('hash')
    const verbose = await ask(server.client, 'PodSandboxStatus', { ...request, verbose: true })
    expect(verbose.info).toEqual({ info: JSON.stringify({ quarantined }) })
  })

  it('answers NOT_FOUND for an id that nobody knows', async () => {
    const attempt = ask(server.client, 'PodSandboxStatus', { pod_sandbox_id: 'x' })
    await expect(attempt).rejects.toMatchObject({ code: status.NOT_FOUND })
  })
})

describe('ListPodSandbox', () => {
  const list = async (filter: object | null) => {
    const { items } = await ask(server.client, 'ListPodSandbox', { filter })
    return items.map((item) => item.id)
  }

  it('filters by id, state and labels, all of them together', async () => {
    const web = podConfig({ labels: { app: 'web', tier: 'front' } })
    const running = server.sandboxes.add({}, web).metadata.id
    const stopped = server.sandboxes.add({ state: 'STOPPED' }, web).metadata.id
    const pending = server.sandboxes.add({ state: 'PENDING' }).metadata.id
    const doubtful = server.sandboxes.add({ quarantined: 'row: hash does not match' }).metadata.id
    expect(await list(null)).toEqual([doubtful, pending, stopped, running])
    expect(await list({ state: { state: 'SANDBOX_READY' } })).toEqual([running])
    expect(await list({ state: { state: 'SANDBOX_NOTREADY' } })).toEqual([doubtful, pending, stopped])
    expect(await list({ label_selector: { app: 'web' } })).toEqual([stopped, running])
    expect(await list({ label_selector: { app: 'web', tier: 'back' } })).toEqual([])
    expect(await list({ id: stopped, state: { state: 'SANDBOX_READY' } })).toEqual([])
    expect(await list({ id: stopped, state: { state: 'SANDBOX_NOTREADY' } })).toEqual([stopped])
    await expect(list({ state: { state: 5 } })).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
  })

  it('points to the stream when the list outgrows a message, and the stream holds it all', async () => {
    // 17 times 1 MB of text that the cheap estimate takes for three.
    for (let pod = 0; pod < 17; pod += 1) {
      server.sandboxes.add({}, podConfig({ annotations: { text: 'x'.repeat(MIB) } }))
    }
    await expect(list(null)).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      details: expect.stringContaining('use StreamPodSandboxes') as string,
    })
    const received: PodSandbox__Output[] = []
    for await (const part of server.client.StreamPodSandboxes({})) {
      const { pod_sandboxes: sandboxes } = part as { pod_sandboxes: PodSandbox__Output[] }
      received.push(...sandboxes)
    }
    expect(received.map((item) => item.id)).toEqual(server.sandboxes.views.map((view) => view.metadata.id))
    server.sandboxes.views.splice(0, 5)
    expect(await list(null)).toHaveLength(12)
  })
})

describe('StreamPodSandboxes', () => {
  it('sends 100 sandboxes to a message and ends with OK when there are none', async () => {
    const sizes = async () => {
      const found: number[] = []
      for await (const part of server.client.StreamPodSandboxes({})) {
        found.push((part as { pod_sandboxes: unknown[] }).pod_sandboxes.length)
      }
      return found
    }
    expect(await sizes()).toEqual([])
    for (let pod = 0; pod < 205; pod += 1) server.sandboxes.add()
    expect(await sizes()).toEqual([100, 100, 5])
  })
})

describe('UpdatePodSandboxResources', () => {
  it('hands both parts over, either of which may be absent', async () => {
    const resources = containerResources({ memory_limit_in_bytes: '9007199254740993' })
    await ask(server.client, 'UpdatePodSandboxResources', { pod_sandbox_id: 'a', resources })
    expect(server.sandboxes.calls).toMatchObject([
      { verb: 'updateResources', subject: 'a', request: { overhead: null, resources } },
    ])
  })

  it('refuses what no cgroup can have', async () => {
    const overhead = { cpu_shares: '-1' }
    const attempt = ask(server.client, 'UpdatePodSandboxResources', { pod_sandbox_id: 'a', overhead })
    await expect(attempt).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(/^overhead\.cpu_shares: /) as string,
    })
    expect(server.sandboxes.calls).toEqual([])
  })
})

describe('the statistics', () => {
  it('are served', async () => {
    expect(await ask(server.client, 'ListContainerStats', {})).toEqual({ stats: [] })
    expect(await ask(server.client, 'ListPodSandboxStats', {})).toEqual({ stats: [] })
    expect(await ask(server.client, 'ListPodSandboxMetrics', {})).toEqual({ pod_metrics: [] })
    expect((await ask(server.client, 'ListMetricDescriptors', {})).descriptors).not.toEqual([])
  })
})

describe('the contract', () => {
  const unary = Object.entries(cri.RuntimeService.service).filter(([, { responseStream }]) => !responseStream)

  it.each(unary.map(([name]) => name as 'Exec'))('has an answer to %s', async (method) => {
    const code = await ask(server.client, method, {}).then(
      () => status.OK,
      (error: unknown) => (error as ServiceError).code,
    )
    expect(code).not.toBe(status.UNIMPLEMENTED)
  })
})
