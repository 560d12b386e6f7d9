import { CodedError } from '../core/errors.ts'
import type { ContainerTarget, StatsFilter } from './types.ts'

/** @throws CodedError `NotFound`, or `InvalidArgument` when the beginning of an id fits several. */
export function findTarget<T extends { readonly id: string }>(what: string, targets: readonly T[], id: string): T {
  const found = targets.filter((target) => target.id.startsWith(id))
  const exact = found.find((target) => target.id === id)
  if (exact) return exact
  const [first] = found
  if (id === '' || !first) throw new CodedError('NotFound', `statistics of ${what} ${id}: there is none`)
  if (found.length > 1) {
    throw new CodedError('InvalidArgument', `statistics of ${what} ${id}: ${found.length} ids begin with it`)
  }
  return first
}

/** Whether a filter lets everything through. */
export function isEmptyFilter({ id, sandboxId, labels }: StatsFilter): boolean {
  return !id && !sandboxId && Object.keys(labels ?? {}).length === 0
}

/** Whether a filter lets this through. */
export function isMatch(
  { id = '', sandboxId = '', labels = {} }: StatsFilter,
  target: { readonly id: string; readonly sandboxId?: string; readonly labels: Readonly<Record<string, string>> },
): boolean {
  if (!target.id.startsWith(id) || !(target.sandboxId ?? '').startsWith(sandboxId)) return false
  return Object.entries(labels).every(([key, value]) => target.labels[key] === value)
}

/** Containers by the id of their pod. */
export function bySandbox(containers: readonly ContainerTarget[]): ReadonlyMap<string, readonly ContainerTarget[]> {
  const groups = new Map<string, ContainerTarget[]>()
  for (const container of containers) {
    const group = groups.get(container.sandboxId)
    if (group) group.push(container)
    else groups.set(container.sandboxId, [container])
  }
  return groups
}
