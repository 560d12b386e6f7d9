import type { Observer } from '../../core/observer.ts'
import type { TaskDefinition } from '../../generated/containerd/task/v3/Task.ts'
import type { ClientMethod, TtrpcMessages } from '../../ttrpc/types.ts'
import type { TaskEndpoint } from '../types.ts'
import { parseTaskEndpoint, type TaskTarget } from './task-address.ts'
import { GrpcChannel, type TaskChannel, TtrpcChannel } from './task-channel.ts'
import { ChannelTaskService } from './task-service.ts'
import type { TaskCall, TaskService, TaskServices } from './types.ts'

/** A connection over which nothing has been asked for so long is closed; the next call makes another. */
const IDLE_MS = 120_000

export interface TaskServicesDeps {
  /** Of containerd.task.v3.Task; see `loadShimApi`. */
  readonly definition: TaskDefinition
  readonly messages: TtrpcMessages
  /** Default: nobody. */
  readonly observer?: Observer
}

/** {@link TaskServices} over ttrpc and gRPC. */
export class TaskConnections implements TaskServices, Disposable {
  readonly #deps: TaskServicesDeps
  readonly #idleMs: number
  readonly #channels = new Map<string, SharedChannel>()

  constructor(options: { readonly idleMs?: number }, deps: TaskServicesDeps) {
    this.#idleMs = options.idleMs ?? IDLE_MS
    this.#deps = deps
  }

  at(endpoint: TaskEndpoint): TaskService {
    const target = parseTaskEndpoint(endpoint)
    const channel = (): TaskChannel => this.#channel(endpoint.address, target)
    return new ChannelTaskService(target.service, this.#deps.definition, channel, this.#deps.observer)
  }

  [Symbol.dispose](): void {
    for (const channel of this.#channels.values()) channel[Symbol.dispose]()
    this.#channels.clear()
  }

  #channel(address: string, { protocol, target }: TaskTarget): SharedChannel {
    const found = this.#channels.get(address)
    if (found) return found
    const inner =
      protocol === 'grpc'
        ? new GrpcChannel(address, target.path, this.#deps)
        : new TtrpcChannel(address, target, this.#deps)
    const channel = new SharedChannel(inner, this.#idleMs, () => {
      this.#channels.delete(address)
      channel[Symbol.dispose]()
    })
    this.#channels.set(address, channel)
    return channel
  }
}

/** One channel for all calls to an address; says when it has been idle for long. */
class SharedChannel implements TaskChannel {
  readonly #inner: TaskChannel
  readonly #idleMs: number
  readonly #onIdle: () => void
  #calls = 0
  #timer: NodeJS.Timeout | undefined

  constructor(inner: TaskChannel, idleMs: number, onIdle: () => void) {
    this.#inner = inner
    this.#idleMs = idleMs
    this.#onIdle = onIdle
  }

  async call<Request extends object, Response extends object>(
    service: string,
    method: string,
    definition: ClientMethod<Request, Response>,
    request: Request,
    call: TaskCall,
  ): Promise<Response> {
    this.#calls++
    clearTimeout(this.#timer)
    try {
      return await this.#inner.call(service, method, definition, request, call)
    } finally {
      if (--this.#calls === 0) this.#timer = setTimeout(this.#onIdle, this.#idleMs).unref()
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    this.#inner[Symbol.dispose]()
  }
}
