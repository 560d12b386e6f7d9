import type {
  ContainerConfig,
  ContainerFilter,
  ContainerInfo,
  ContainerMetadata,
  ContainerResources,
  Containers,
  ContainerStatus,
  ContainerView,
  ExecResult,
} from '../../src/container/types.ts'
import { CodedError } from '../../src/core/errors.ts'
import type { ProcessStreams, StreamedExecRequest, StreamsWanted } from '../../src/executor/types.ts'
import { FakeProcessStreams } from './fake-process-streams.ts'

export interface FakeContainerCall {
  readonly verb: Exclude<keyof Containers, 'get' | 'list'>
  readonly subject: string
  readonly request: unknown
  readonly signal: AbortSignal
}

/** A configuration that passes validation, with what a test wants to be different. */
export function containerConfig(changes: Partial<ContainerConfig> = {}): ContainerConfig {
  return {
    metadata: { name: 'main', attempt: 0 },
    image: { image: 'sha256:1', annotations: {}, user_specified_image: 'busybox', runtime_handler: '', image_ref: '' },
    command: [],
    args: [],
    working_dir: '',
    envs: [],
    mounts: [],
    devices: [],
    labels: {},
    annotations: {},
    log_path: '',
    stdin: false,
    stdin_once: false,
    tty: false,
    linux: null,
    windows: null,
    CDI_devices: [],
    stop_signal: 'SIGNAL_RUNTIME_DEFAULT',
    ...changes,
  }
}

/** Resources that set nothing but what a test wants. */
export function containerResources(changes: Partial<ContainerResources> = {}): ContainerResources {
  return {
    cpu_period: '0',
    cpu_quota: '0',
    cpu_shares: '0',
    memory_limit_in_bytes: '0',
    oom_score_adj: '0',
    cpuset_cpus: '',
    cpuset_mems: '',
    hugepage_limits: [],
    unified: {},
    memory_swap_limit_in_bytes: '0',
    ...changes,
  }
}

export interface FakeContainer {
  readonly metadata?: Partial<ContainerMetadata>
  readonly status?: Partial<ContainerStatus>
  readonly quarantined?: string
  readonly config?: Partial<ContainerConfig>
}

/** Containers in memory. Each verb does its work at once, unless a test puts something in its way. */
export class FakeContainers implements Containers {
  readonly calls: FakeContainerCall[] = []
  /** Newest first. */
  readonly views: ContainerView[] = []
  infoAnswer: ContainerInfo = {}
  execAnswer: ExecResult = { exitCode: 0, stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) }
  /** The processes that exec and attach have handed out, the last one last; a test may make others. */
  readonly processes: FakeProcessStreams[] = []
  newProcess: (wanted: StreamsWanted) => FakeProcessStreams = (wanted) => new FakeProcessStreams(wanted)
  /** Awaited by all that is no mere view before it does anything; may throw. */
  inTheWay: (call: FakeContainerCall) => Promise<void> = async () => {}

  /** Adds a created container. */
  add({ metadata = {}, status = {}, quarantined = '', config = {} }: FakeContainer = {}): ContainerView {
    const number = BigInt(this.views.length + 1)
    const view: ContainerView = {
      metadata: {
        id: `c${number.toString(16).padStart(63, '0')}`,
        name: `k8s_main_web_default_uid-1_${number}`,
        sandboxId: '',
        config: containerConfig(config),
        imageId: 'sha256:1',
        imageRef: 'docker.io/library/busybox@sha256:2',
        mountedImageIds: [],
        logPath: '',
        stopSignal: 'SIGTERM',
        createdAtNs: 1_763_692_200_123_456_789n + number,
        ...metadata,
      },
      status: {
        state: 'CREATED',
        visible: true,
        removing: false,
        process: null,
        startedAtNs: 0n,
        exit: null,
        oomKilled: false,
        message: '',
        user: null,
        resources: null,
        ...status,
      },
      quarantined,
    }
    this.views.unshift(view)
    return view
  }

  /** Changes the status of a container. */
  change(id: string, changes: Partial<ContainerStatus>): void {
    const at = this.views.findIndex(({ metadata }) => metadata.id === id)
    const view = this.views[at]
    if (view !== undefined) this.views[at] = { ...view, status: { ...view.status, ...changes } }
  }

  async create(
    request: { readonly sandboxId: string; readonly config: ContainerConfig },
    signal: AbortSignal,
  ): Promise<string> {
    await this.#record('create', request.sandboxId, request, signal)
    return this.add({ metadata: { sandboxId: request.sandboxId }, config: request.config }).metadata.id
  }

  async start(id: string, signal: AbortSignal): Promise<void> {
    await this.#record('start', id, undefined, signal)
    this.change(id, { state: 'RUNNING', startedAtNs: 1n })
  }

  async stop(id: string, timeoutMs: number, signal: AbortSignal): Promise<void> {
    await this.#record('stop', id, timeoutMs, signal)
    this.change(id, { state: 'EXITED', exit: { code: 143, atNs: 2n, reason: 'Exited' } })
  }

  async remove(id: string, signal: AbortSignal): Promise<void> {
    await this.#record('remove', id, undefined, signal)
    const at = this.views.findIndex(({ metadata }) => metadata.id === id)
    if (at !== -1) this.views.splice(at, 1)
  }

  get(id: string): ContainerView {
    const found = this.views.find(({ metadata }) => metadata.id.startsWith(id))
    if (found === undefined) throw new CodedError('NotFound', `find container ${id}: there is none`)
    return found
  }

  async info(id: string, signal: AbortSignal): Promise<ContainerInfo> {
    await this.#record('info', id, undefined, signal)
    return this.infoAnswer
  }

  list(filter: ContainerFilter): ContainerView[] {
    return this.views.filter(
      ({ metadata }) =>
        metadata.id.startsWith(filter.id ?? '') &&
        metadata.sandboxId.startsWith(filter.sandboxId ?? '') &&
        Object.entries(filter.labels ?? {}).every(([key, value]) => metadata.config.labels[key] === value),
    )
  }

  async updateResources(id: string, resources: ContainerResources, signal: AbortSignal): Promise<void> {
    await this.#record('updateResources', id, resources, signal)
    this.change(id, { resources })
  }

  async execSync(
    id: string,
    request: { readonly command: readonly string[]; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<ExecResult> {
    await this.#record('execSync', id, request, signal)
    return this.execAnswer
  }

  async exec(id: string, request: StreamedExecRequest, signal: AbortSignal): Promise<ProcessStreams> {
    await this.#record('exec', id, request, signal)
    return this.#hand(request)
  }

  async attach(id: string, request: StreamsWanted, signal: AbortSignal): Promise<ProcessStreams> {
    await this.#record('attach', id, request, signal)
    return this.#hand(request)
  }

  async reopenLog(id: string, signal: AbortSignal): Promise<void> {
    await this.#record('reopenLog', id, undefined, signal)
  }

  async checkpoint(
    id: string,
    request: { readonly location: string; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    await this.#record('checkpoint', id, request, signal)
  }

  #hand(wanted: StreamsWanted): ProcessStreams {
    const process = this.newProcess(wanted)
    this.processes.push(process)
    return process
  }

  async #record(
    verb: FakeContainerCall['verb'],
    subject: string,
    request: unknown,
    signal: AbortSignal,
  ): Promise<void> {
    const call = { verb, subject, request, signal }
    this.calls.push(call)
    await this.inTheWay(call)
  }
}
