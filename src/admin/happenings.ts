import { waitFor } from '../core/deadline.ts'
import { CodedError } from '../core/errors.ts'
import type { LifecycleEvent } from '../lifecycle/events.ts'
import type { Happening } from './api.ts'
import { isoOfNs } from './times.ts'

/** More are refused. */
const MAX_FOLLOWERS = 32
/** A follower that is further behind is cut off. */
const MAX_WAITING = 1000

type Pod = Happening['pod']

/** What things are called, of all that there are. */
export interface Names {
  readonly pods: () => Iterable<readonly [sandboxId: string, pod: Pod]>
  readonly containers: () => Iterable<readonly [containerId: string, name: string]>
}

interface Follower {
  readonly waiting: Happening[]
  wake: () => void
  isBehind: boolean
}

/** Tells those who follow what happens. Nobody waits for a follower, and without any it costs nothing. */
export class Happenings {
  readonly #names: Names
  readonly #followers = new Set<Follower>()
  /** Of what has gone away the end is told as well. */
  #pods = new Map<string, Pod>()
  #containers = new Map<string, string>()

  constructor(deps: { readonly names: Names }) {
    this.#names = deps.names
  }

  publish(event: LifecycleEvent): void {
    if (this.#followers.size === 0) return
    const happening = this.#describe(event)
    for (const follower of this.#followers) {
      if (follower.waiting.length < MAX_WAITING) follower.waiting.push(happening)
      else follower.isBehind = true
      follower.wake()
    }
  }

  /**
   * What happens from this call on, until the signal aborts.
   * @throws CodedError `ResourceExhausted` when there are too many followers, and from the iterator when it is too far behind;
   * the reason of the signal when it has aborted.
   */
  follow(signal: AbortSignal): AsyncGenerator<Happening> {
    signal.throwIfAborted()
    if (this.#followers.size >= MAX_FOLLOWERS) {
      throw new CodedError('ResourceExhausted', `follow events: ${MAX_FOLLOWERS} clients do so already`)
    }
    const follower: Follower = { waiting: [], wake: () => {}, isBehind: false }
    this.#followers.add(follower)
    this.#learnNames()
    signal.addEventListener('abort', () => this.#followers.delete(follower), { once: true })
    return this.#tell(follower, signal)
  }

  async *#tell(follower: Follower, signal: AbortSignal): AsyncGenerator<Happening> {
    try {
      for (;;) {
        signal.throwIfAborted()
        const happening = follower.waiting.shift()
        if (happening) {
          yield happening
          continue
        }
        if (follower.isBehind) {
          throw new CodedError('ResourceExhausted', `follow events: more than ${MAX_WAITING} wait for a slow client`)
        }
        const next = new Promise<void>((resolve) => {
          follower.wake = resolve
        })
        await waitFor(next, signal)
      }
    } finally {
      this.#followers.delete(follower)
    }
  }

  #describe({ type, containerId, sandboxId, atNs }: LifecycleEvent): Happening {
    const isSandbox = containerId === sandboxId
    if (!this.#pods.has(sandboxId) || !(isSandbox || this.#containers.has(containerId))) this.#learnNames()
    const pod = this.#pods.get(sandboxId) ?? { name: '', namespace: '' }
    const name = isSandbox ? pod.name : (this.#containers.get(containerId) ?? '')
    return { at: isoOfNs(atNs), type, id: containerId, sandboxId, name, pod }
  }

  #learnNames(): void {
    this.#pods = new Map(this.#names.pods())
    this.#containers = new Map(this.#names.containers())
  }
}
