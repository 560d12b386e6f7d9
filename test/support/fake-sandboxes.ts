import { connect, type Socket } from 'node:net'
import { CodedError } from '../../src/core/errors.ts'
import type { LinuxContainerResources__Output } from '../../src/generated/runtime/v1/LinuxContainerResources.ts'
import type { PodSandboxConfig, SandboxFilter, SandboxInfo, Sandboxes, SandboxView } from '../../src/sandbox/types.ts'

export interface FakeCall {
  readonly verb: 'run' | 'stop' | 'remove' | 'info' | 'updateResources' | 'connect'
  readonly subject: string
  readonly signal: AbortSignal
  readonly request?: unknown
}

/** A configuration that passes validation, with what a test wants to be different. */
export function podConfig(changes: Partial<PodSandboxConfig> = {}): PodSandboxConfig {
  return {
    metadata: { name: 'web', namespace: 'default', uid: 'uid-1', attempt: 0 },
    hostname: '',
    log_directory: '',
    dns_config: null,
    port_mappings: [],
    labels: {},
    annotations: {},
    linux: null,
    windows: null,
    ...changes,
  }
}

/** Sandboxes in memory. Each verb does its work at once, unless a test puts something in its way. */
export class FakeSandboxes implements Sandboxes {
  readonly calls: FakeCall[] = []
  /** Newest first. */
  readonly views: SandboxView[] = []
  infoAnswer: SandboxInfo = {}
  /** Awaited by run, stop and remove before they do anything; may throw. */
  inTheWay: (call: FakeCall) => Promise<void> = async () => {}

  /** Adds a running sandbox. */
  add(changes: Partial<SandboxView> = {}, config: PodSandboxConfig = podConfig(), runtimeHandler = ''): SandboxView {
    const number = BigInt(this.views.length + 1)
    const { name, namespace, uid, attempt } = config.metadata ?? { name: '', namespace: '', uid: '', attempt: 0 }
    const view: SandboxView = {
      metadata: {
        id: number.toString(16).padStart(64, '0'),
        name: `k8s_POD_${name}_${namespace}_${uid}_${attempt}`,
        config,
        runtimeHandler,
        sandboxer: 'shim',
        netMode: 'cni',
        netnsPath: '/run/netns/fake',
        createdAtNs: 1_763_692_200_123_456_789n + number,
      },
      state: 'RUNNING',
      quarantined: '',
      ips: ['10.88.0.2'],
      ...changes,
    }
    this.views.unshift(view)
    return view
  }

  async run(request: { config: PodSandboxConfig; runtimeHandler: string }, signal: AbortSignal): Promise<string> {
    await this.#record({ verb: 'run', subject: request.config.metadata?.name ?? '', signal })
    return this.add({}, request.config, request.runtimeHandler).metadata.id
  }

  async stop(id: string, signal: AbortSignal): Promise<void> {
    await this.#record({ verb: 'stop', subject: id, signal })
    const at = this.views.findIndex((view) => view.metadata.id === id)
    const view = this.views[at]
    if (view !== undefined) this.views[at] = { ...view, state: 'STOPPED' }
  }

  async remove(id: string, signal: AbortSignal): Promise<void> {
    await this.#record({ verb: 'remove', subject: id, signal })
    const at = this.views.findIndex((view) => view.metadata.id === id)
    if (at !== -1) this.views.splice(at, 1)
  }

  get(id: string): SandboxView {
    const found = this.views.find((view) => view.metadata.id.startsWith(id))
    if (found === undefined) throw new CodedError('NotFound', `find sandbox ${id}: there is none`)
    return found
  }

  async info(id: string, signal: AbortSignal): Promise<SandboxInfo> {
    await this.#record({ verb: 'info', subject: id, signal })
    return this.infoAnswer
  }

  list(filter: SandboxFilter): SandboxView[] {
    return this.views.filter(
      ({ metadata }) =>
        metadata.id.startsWith(filter.id ?? '') &&
        Object.entries(filter.labels ?? {}).every(([key, value]) => metadata.config.labels[key] === value),
    )
  }

  async updateResources(
    id: string,
    request: {
      readonly overhead: LinuxContainerResources__Output | null
      readonly resources: LinuxContainerResources__Output | null
    },
    signal: AbortSignal,
  ): Promise<void> {
    await this.#record({ verb: 'updateResources', subject: id, signal, request })
  }

  /** To that port of this machine, where a test may listen. */
  async connect(id: string, port: number, signal: AbortSignal): Promise<Socket> {
    await this.#record({ verb: 'connect', subject: id, signal, request: port })
    const socket = connect({ host: '127.0.0.1', port })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', (error) => {
        reject(new CodedError('Unavailable', `connect to port ${port} of sandbox ${id}: ${error.message}`))
      })
    })
    return socket
  }

  async #record(call: FakeCall): Promise<void> {
    this.calls.push(call)
    await this.inTheWay(call)
  }
}
