import type { Activity, Observer } from '../core/observer.ts'
import type { Logger } from './logger.ts'

/** Between two lines about one operation. */
const REPEAT_MS = 30_000

type Operation = Extract<Activity, { readonly kind: 'operation' }>

/**
 * Warns of operations that take long: a line every 30 seconds, with what they wait for. That is another operation on the
 * same id, or the steps that are under way with all that runs in them.
 */
export class LongOperations implements Observer {
  readonly #logger: Logger
  /** What is under way inside operations, by the id of their sandbox or container. */
  readonly #inner = new Map<string, Set<Activity>>()

  constructor(deps: { readonly logger: Logger }) {
    this.#logger = deps.logger
  }

  async run<T>(activity: Activity, work: () => Promise<T>): Promise<T> {
    if (activity.kind === 'operation') return this.#watch(activity, work)
    if (activity.id === undefined || activity.kind === 'rpc') return work()
    return this.#within(activity.id, activity, work)
  }

  headers(): Readonly<Record<string, string>> {
    return {}
  }

  async #watch<T>(operation: Operation, work: () => Promise<T>): Promise<T> {
    const since = performance.now()
    const timer = setInterval(() => {
      const { id, name } = operation
      const seconds = Math.round((performance.now() - since) / 1000)
      this.#logger.warn({ id, operation: name, waitsFor: this.#waitsFor(operation), seconds }, 'operation takes long')
    }, REPEAT_MS)
    try {
      return await work()
    } finally {
      clearInterval(timer)
    }
  }

  #waitsFor({ id = '', waitsFor }: Operation): string[] {
    const other = waitsFor?.()
    if (other !== undefined) return [`operation ${other}`]
    return [...(this.#inner.get(id) ?? [])].map(describe)
  }

  async #within<T>(id: string, activity: Activity, work: () => Promise<T>): Promise<T> {
    const all = this.#inner.get(id) ?? new Set()
    this.#inner.set(id, all.add(activity))
    try {
      return await work()
    } finally {
      all.delete(activity)
      if (all.size === 0 && this.#inner.get(id) === all) this.#inner.delete(id)
    }
  }
}

/** `setupSandboxNetwork`, `bridge ADD`, `crun create`. */
function describe(activity: Activity): string {
  switch (activity.kind) {
    case 'cni':
      return `${activity.plugin} ${activity.name}`
    case 'runtime':
      return `${activity.runtime} ${activity.name}`
    case 'sandboxer':
      return `${activity.sandboxer} ${activity.name}`
    default:
      return activity.name
  }
}
