import { CodedError } from '../core/errors.ts'
import type { Sandbox } from './sandbox.ts'
import type { SandboxFilter } from './types.ts'

/** The sandboxes of the node, by id and by name. */
export class SandboxIndex {
  readonly #byId = new Map<string, Sandbox>()
  readonly #byName = new Map<string, Sandbox>()

  add(sandbox: Sandbox): void {
    this.#byId.set(sandbox.id, sandbox)
    this.#byName.set(sandbox.metadata.name, sandbox)
  }

  delete(sandbox: Sandbox): void {
    this.#byId.delete(sandbox.id)
    if (this.#byName.get(sandbox.metadata.name) === sandbox) this.#byName.delete(sandbox.metadata.name)
  }

  all(): Sandbox[] {
    return [...this.#byId.values()]
  }

  byName(name: string): Sandbox | undefined {
    return this.#byName.get(name)
  }

  /**
   * Finds a sandbox by its id, its name, or the beginning of its id.
   * @throws CodedError `InvalidArgument` when several ids begin like that.
   */
  find(reference: string): Sandbox | undefined {
    const exact = this.#byId.get(reference) ?? this.#byName.get(reference)
    if (exact || !/^[0-9a-f]{1,63}$/.test(reference)) return exact
    const matches = this.all().filter(({ id }) => id.startsWith(reference))
    if (matches.length <= 1) return matches[0]
    throw new CodedError('InvalidArgument', `pod_sandbox_id: ${matches.length} sandboxes begin with ${reference}`)
  }
}

/** Whether the CRI may show a sandbox: not while its creation is under way, and no more once its removal was asked for. */
export function isListed({ status }: Sandbox): boolean {
  return status.visible && status.state !== 'REMOVING'
}

/** READY in the CRI. */
export function isReady({ status, quarantined }: Sandbox): boolean {
  return status.state === 'RUNNING' && quarantined === ''
}

/** All conditions of the filter must hold; the id may be the beginning of one. */
export function matches(sandbox: Sandbox, filter: SandboxFilter): boolean {
  if (filter.id !== undefined && !sandbox.id.startsWith(filter.id)) return false
  const { labels } = sandbox.metadata.config
  return Object.entries(filter.labels ?? {}).every(
    ([key, value]) => Object.hasOwn(labels, key) && labels[key] === value,
  )
}
