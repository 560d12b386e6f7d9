import { fromTimestamp } from '../../client/timestamp.ts'
import { nowNs } from '../../core/now.ts'
import type { ProtoGrpcType } from '../../generated/shim.ts'
import type { Any__Output } from '../../generated/google/protobuf/Any.ts'
import { TtrpcServer, ttrpcMethod } from '../../ttrpc/server.ts'
import type { TaskEvent, TaskEvents } from '../task/types.ts'

const SERVICE = 'containerd.services.events.ttrpc.v1.Events'

/**
 * Where the shims of this node send their events (containerd.services.events.ttrpc.v1.Events). What is of no interest is
 * taken and dropped: a shim keeps what nobody takes, and tries again.
 */
export class ShimEvents implements TaskEvents, AsyncDisposable {
  readonly #messages: ProtoGrpcType
  readonly #server: TtrpcServer
  readonly #subscribers = new Set<(event: TaskEvent) => void>()

  constructor(options: { readonly socketPath: string }, deps: { readonly messages: ProtoGrpcType }) {
    this.#messages = deps.messages
    const { ttrpc, containerd } = deps.messages
    this.#server = new TtrpcServer(options, { messages: ttrpc })
    const { Forward } = containerd.services.events.ttrpc.v1.Events.service
    const forward = ttrpcMethod(Forward, async ({ envelope }) => {
      const event = envelope?.event ? this.#read(envelope.event) : null
      if (event) for (const subscriber of this.#subscribers) subscriber(event)
      return {}
    })
    this.#server.addService(SERVICE, { Forward: forward })
  }

  /** @throws CodedError as `TtrpcServer.listen`. */
  async listen(): Promise<void> {
    await this.#server.listen()
  }

  subscribe(onEvent: (event: TaskEvent) => void): Disposable {
    // One of its own for each subscription, also of the same function.
    const subscriber = (event: TaskEvent): void => onEvent(event)
    this.#subscribers.add(subscriber)
    return { [Symbol.dispose]: () => void this.#subscribers.delete(subscriber) }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]()
  }

  #read({ type_url: typeUrl, value }: Any__Output): TaskEvent | null {
    const { TaskOOM, TaskExit } = this.#messages.containerd.events
    // With or without `type.googleapis.com/`.
    switch (typeUrl.slice(typeUrl.lastIndexOf('/') + 1)) {
      case 'containerd.events.TaskOOM':
        return { kind: 'oom', containerId: TaskOOM.deserialize(value).container_id }
      case 'containerd.events.TaskExit': {
        const { container_id: containerId, id, exit_status: code, exited_at: at } = TaskExit.deserialize(value)
        return { kind: 'exit', containerId, processId: id, code, atNs: fromTimestamp(at) ?? nowNs() }
      }
      default:
        return null
    }
  }
}
