import type { Containers } from '../container/types.ts'
import { waitFor } from '../core/deadline.ts'
import { CodedError, errorCode } from '../core/errors.ts'
import { nowNs } from '../core/now.ts'
import type { ContainerEventResponse } from '../generated/runtime/v1/ContainerEventResponse.ts'
import type { CallContext } from '../grpc/handler.ts'
import type { LifecycleEvent } from '../lifecycle/events.ts'
import type { Sandboxes, SandboxView } from '../sandbox/types.ts'
import { toContainerStatus } from './container-messages.ts'
import { toSandboxStatus } from './sandbox-messages.ts'

/** A subscriber that is further behind is cut off, and has to look at the lists. */
const MAX_WAITING = 1000

export interface ContainerEventsDeps {
  readonly sandboxes: Pick<Sandboxes, 'get'>
  readonly containers: Pick<Containers, 'list'>
}

/** The part of a call that a subscription needs: the signal that ends it, and a way to end it. */
export type EventCall = Pick<CallContext, 'signal' | 'abort'>

interface Subscriber {
  readonly push: (event: ContainerEventResponse) => void
  readonly end: (reason: CodedError) => void
}

/**
 * Hands events to whoever subscribed. Each shows its pod with all its containers as they were when it was published, in
 * the order of publishing; nobody waits for a subscriber.
 */
export class ContainerEvents implements Disposable {
  readonly #deps: ContainerEventsDeps
  readonly #subscribers = new Set<Subscriber>()
  #isClosed = false

  constructor(deps: ContainerEventsDeps) {
    this.#deps = deps
  }

  /** Tells all subscribers, once the change is visible in what `deps` show. Costs nothing when there are none. */
  publish(event: LifecycleEvent): void {
    if (this.#subscribers.size === 0) return
    const message = this.#snapshot(event)
    for (const { push } of this.#subscribers) push(message)
  }

  /**
   * The events from the first time that one is asked for. A subscriber that falls behind ends with `ResourceExhausted`,
   * and all of them with `Unavailable` when this is disposed; both abort the call, which may be waiting for its reader.
   */
  async *subscribe({ signal, abort }: EventCall): AsyncGenerator<ContainerEventResponse, void, undefined> {
    if (this.#isClosed) throw closed()
    const waiting: ContainerEventResponse[] = []
    let wake = (): void => {}
    const subscriber: Subscriber = {
      push: (event) => {
        if (waiting.length < MAX_WAITING) {
          waiting.push(event)
          wake()
          return
        }
        this.#subscribers.delete(subscriber)
        waiting.length = 0
        abort(new CodedError('ResourceExhausted', `send container events: ${MAX_WAITING} wait for a slow subscriber`))
      },
      end: abort,
    }
    this.#subscribers.add(subscriber)
    try {
      for (;;) {
        signal.throwIfAborted()
        const event = waiting.shift()
        if (event !== undefined) {
          yield event
          continue
        }
        const next = new Promise<void>((resolve) => {
          wake = resolve
        })
        await waitFor(next, signal)
      }
    } finally {
      this.#subscribers.delete(subscriber)
    }
  }

  /** Ends all subscriptions, so that the server they belong to can close. */
  [Symbol.dispose](): void {
    this.#isClosed = true
    for (const { end } of this.#subscribers) end(closed())
    this.#subscribers.clear()
  }

  #snapshot({ type, containerId, sandboxId, atNs }: LifecycleEvent): ContainerEventResponse {
    // The kubelet takes it for the time at which it learned all this: that of the snapshot, not that of a long past exit.
    const now = nowNs()
    const sandbox = this.#sandbox(sandboxId)
    return {
      container_id: containerId,
      container_event_type: `CONTAINER_${type}_EVENT`,
      created_at: (now > atNs ? now : atNs).toString(),
      pod_sandbox_status: sandbox === null ? null : toSandboxStatus(sandbox),
      containers_statuses: this.#deps.containers.list({ sandboxId }).map(toContainerStatus),
    }
  }

  #sandbox(id: string): SandboxView | null {
    try {
      return this.#deps.sandboxes.get(id)
    } catch (error) {
      if (errorCode(error) === 'NotFound') return null
      throw error
    }
  }
}

function closed(): CodedError {
  return new CodedError('Unavailable', 'send container events: the daemon is stopping')
}
