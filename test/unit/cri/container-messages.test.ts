import { describe, expect, it } from 'vitest'
import { toContainer, toContainerStatus } from '../../../src/cri/container-messages.ts'
import { Signal } from '../../../src/generated/runtime/v1/Signal.ts'
import { containerResources, FakeContainers, type FakeContainer } from '../../support/fake-containers.ts'
import { cri } from './cri-server.ts'

const EXITED = { state: 'EXITED', startedAtNs: 1n } as const

function statusOf(container: FakeContainer) {
  return toContainerStatus(new FakeContainers().add(container))
}

function exitOf(code: number, reason: 'Exited' | 'Unknown' | 'NodeReboot' = 'Exited') {
  return { code, atNs: 2n, reason }
}

describe('toContainerStatus', () => {
  it('gives back exactly what the caller configured, and what was found out', () => {
    const config = {
      metadata: { name: 'main', attempt: 3 },
      image: {
        image: 'sha256:1',
        user_specified_image: 'docker.io/library/nginx:1.27',
        annotations: { a: 'b' },
        runtime_handler: 'crun',
        image_ref: '',
      },
      labels: { 'io.kubernetes.container.name': 'main' },
      annotations: { text: 'two\nlines' },
      mounts: [
        {
          container_path: '/data',
          host_path: '/var/data',
          readonly: true,
          selinux_relabel: false,
          propagation: 'PROPAGATION_HOST_TO_CONTAINER' as const,
          uidMappings: [],
          gidMappings: [],
          recursive_read_only: false,
          image: null,
          image_sub_path: '',
          mount_options: [],
        },
      ],
    } satisfies FakeContainer['config']
    const view = new FakeContainers().add({
      metadata: { logPath: '/var/log/pods/web/main/3.log', stopSignal: 'SIGQUIT' },
      status: {
        state: 'RUNNING',
        startedAtNs: 9_007_199_254_740_993n,
        user: { uid: 1000, gid: 1001, additionalGids: [1001, 2000] },
        resources: containerResources({ memory_limit_in_bytes: '9007199254740993' }),
      },
      config,
    })
    const { responseSerialize, responseDeserialize } = cri.RuntimeService.service.ContainerStatus
    const { status } = responseDeserialize(responseSerialize({ status: toContainerStatus(view) }))
    expect(status).toEqual({
      id: view.metadata.id,
      metadata: config.metadata,
      state: 'CONTAINER_RUNNING',
      created_at: '1763692200123456790',
      started_at: '9007199254740993',
      finished_at: '0',
      exit_code: 0,
      reason: '',
      message: '',
      image: { ...config.image, image: 'docker.io/library/nginx:1.27' },
      image_ref: 'docker.io/library/busybox@sha256:2',
      image_id: 'sha256:1',
      labels: config.labels,
      annotations: config.annotations,
      mounts: config.mounts,
      log_path: '/var/log/pods/web/main/3.log',
      resources: {
        linux: containerResources({ memory_limit_in_bytes: '9007199254740993' }),
        windows: null,
      },
      user: { linux: { uid: '1000', gid: '1001', supplemental_groups: ['1001', '2000'] } },
      stop_signal: 'SIGNAL_SIGQUIT',
    })
  })

  it.each<[what: string, container: FakeContainer, expected: object]>([
    ['waits', {}, { state: 'CONTAINER_CREATED', reason: '', exit_code: 0, started_at: '0', finished_at: '0' }],
    [
      'ended well',
      { status: { ...EXITED, exit: exitOf(0) } },
      { state: 'CONTAINER_EXITED', reason: 'Completed', exit_code: 0, finished_at: '2' },
    ],
    ['failed', { status: { ...EXITED, exit: exitOf(3) } }, { reason: 'Error', exit_code: 3 }],
    [
      'was killed by the kernel for want of memory',
      { status: { ...EXITED, exit: exitOf(137), oomKilled: true } },
      { reason: 'OOMKilled', exit_code: 137 },
    ],
    [
      'could not be started',
      { status: { state: 'EXITED', exit: exitOf(128), message: 'exec /x: no such file' } },
      { reason: 'StartError', exit_code: 128, message: 'exec /x: no such file', started_at: '0' },
    ],
    [
      'ended with the node',
      { status: { ...EXITED, exit: exitOf(255, 'NodeReboot') } },
      { reason: 'NodeReboot', exit_code: 255 },
    ],
    ['ended unseen', { status: { ...EXITED, exit: exitOf(255, 'Unknown') } }, { reason: 'Unknown', exit_code: 255 }],
    ['ended, as it seems', { status: EXITED }, { reason: 'Unknown', exit_code: 255, finished_at: '0' }],
    [
      'cannot be observed',
      { status: { state: 'UNKNOWN' } },
      { state: 'CONTAINER_UNKNOWN', reason: 'Unknown', exit_code: 255, finished_at: '0' },
    ],
    [
      'is not to be trusted',
      { status: { ...EXITED, exit: exitOf(0) }, quarantined: 'row: hash does not match' },
      { state: 'CONTAINER_UNKNOWN', reason: 'Unknown', exit_code: 255, message: 'row: hash does not match' },
    ],
  ])('shows one that %s', (_, container, expected) => {
    expect(statusOf(container)).toMatchObject(expected)
  })

  it('names every signal of the CRI, and leaves out those that it has no name for', () => {
    const names = Object.keys(Signal).slice(1)
    const given = names.map((name) => name.slice('SIGNAL_'.length).replace('PLUS', '+').replace('MINUS', '-'))
    expect(given.map((stopSignal) => statusOf({ metadata: { stopSignal } }).stop_signal)).toEqual(names)
    expect(statusOf({ metadata: { stopSignal: 'SIGRTMIN+40' } }).stop_signal).toBe('SIGNAL_RUNTIME_DEFAULT')
    expect(statusOf({ metadata: { stopSignal: '' } }).stop_signal).toBe('SIGNAL_RUNTIME_DEFAULT')
  })
})

describe('toContainer', () => {
  it('names the image as the request did where the user wrote none', () => {
    const image = { image: 'sha256:1', user_specified_image: '', annotations: {}, runtime_handler: '', image_ref: '' }
    const view = new FakeContainers().add({ metadata: { sandboxId: 'p' }, config: { image } })
    expect(toContainer(view)).toEqual({
      id: view.metadata.id,
      pod_sandbox_id: 'p',
      metadata: { name: 'main', attempt: 0 },
      state: 'CONTAINER_CREATED',
      created_at: '1763692200123456790',
      image,
      image_ref: 'docker.io/library/busybox@sha256:2',
      image_id: 'sha256:1',
      labels: {},
      annotations: {},
    })
  })
})
