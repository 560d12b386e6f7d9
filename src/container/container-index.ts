import { CodedError } from '../core/errors.ts'
import type { Container } from './container.ts'
import type { ContainerFilter } from './types.ts'

/** The containers of the node, by id, by name and by sandbox. */
export class ContainerIndex {
  readonly #byId = new Map<string, Container>()
  readonly #byName = new Map<string, Container>()
  readonly #bySandbox = new Map<string, Set<Container>>()

  add(container: Container): void {
    const { id, name, sandboxId } = container.metadata
    this.#byId.set(id, container)
    this.#byName.set(name, container)
    const siblings = this.#bySandbox.get(sandboxId) ?? new Set()
    this.#bySandbox.set(sandboxId, siblings.add(container))
  }

  delete(container: Container): void {
    const { id, name, sandboxId } = container.metadata
    this.#byId.delete(id)
    if (this.#byName.get(name) === container) this.#byName.delete(name)
    const siblings = this.#bySandbox.get(sandboxId)
    siblings?.delete(container)
    if (siblings?.size === 0) this.#bySandbox.delete(sandboxId)
  }

  all(): Container[] {
    return [...this.#byId.values()]
  }

  ofSandbox(sandboxId: string): Container[] {
    return [...(this.#bySandbox.get(sandboxId) ?? [])]
  }

  byName(name: string): Container | undefined {
    return this.#byName.get(name)
  }

  /**
   * Finds a container by its id, its name, or the beginning of its id.
   * @throws CodedError `InvalidArgument` when several ids begin like that.
   */
  find(reference: string): Container | undefined {
    const exact = this.#byId.get(reference) ?? this.#byName.get(reference)
    if (exact || !/^[0-9a-f]{1,63}$/.test(reference)) return exact
    const matches = this.all().filter(({ id }) => id.startsWith(reference))
    if (matches.length <= 1) return matches[0]
    throw new CodedError('InvalidArgument', `container_id: ${matches.length} containers begin with ${reference}`)
  }

  /** What the CRI may show and all conditions of the filter hold for, newest first. */
  list(filter: ContainerFilter): Container[] {
    const { sandboxId } = filter
    const candidates = sandboxId !== undefined && sandboxId.length === 64 ? this.ofSandbox(sandboxId) : this.all()
    return candidates
      .filter((container) => isListed(container) && matches(container, filter))
      .sort((a, b) => (a.metadata.createdAtNs < b.metadata.createdAtNs ? 1 : -1))
  }
}

/** Whether the CRI may show a container: not while its creation is under way, and no more once its removal was asked for. */
export function isListed({ status }: Container): boolean {
  return status.visible && !status.removing
}

function matches({ metadata }: Container, filter: ContainerFilter): boolean {
  if (filter.id !== undefined && !metadata.id.startsWith(filter.id)) return false
  if (filter.sandboxId !== undefined && !metadata.sandboxId.startsWith(filter.sandboxId)) return false
  const { labels } = metadata.config
  return Object.entries(filter.labels ?? {}).every(
    ([key, value]) => Object.hasOwn(labels, key) && labels[key] === value,
  )
}
