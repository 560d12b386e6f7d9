import { hasLabels, OwnerIndex } from '../lifecycle/owner-index.ts'
import type { Container } from './container.ts'
import type { ContainerFilter } from './types.ts'

/** The containers of the node, by id, by name and by sandbox. */
export class ContainerIndex extends OwnerIndex<Container> {
  readonly #bySandbox = new Map<string, Set<Container>>()

  constructor() {
    super('container_id', 'containers')
  }

  override add(container: Container): void {
    super.add(container)
    const { sandboxId } = container.metadata
    const siblings = this.#bySandbox.get(sandboxId) ?? new Set()
    this.#bySandbox.set(sandboxId, siblings.add(container))
  }

  override delete(container: Container): void {
    super.delete(container)
    const { sandboxId } = container.metadata
    const siblings = this.#bySandbox.get(sandboxId)
    siblings?.delete(container)
    if (siblings?.size === 0) this.#bySandbox.delete(sandboxId)
  }

  ofSandbox(sandboxId: string): Container[] {
    return [...(this.#bySandbox.get(sandboxId) ?? [])]
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
export function isListed({ status }: Pick<Container, 'status'>): boolean {
  return status.visible && !status.removing
}

function matches(container: Container, filter: ContainerFilter): boolean {
  const { id, sandboxId } = container.metadata
  if (filter.id !== undefined && !id.startsWith(filter.id)) return false
  if (filter.sandboxId !== undefined && !sandboxId.startsWith(filter.sandboxId)) return false
  return hasLabels(container, filter.labels)
}
