import { CodedError } from '../core/errors.ts'
import type { ContainerFacts, SandboxFacts } from './pods.ts'

/** A sandbox or container that was asked for. */
export type Found =
  | { readonly kind: 'sandbox'; readonly facts: SandboxFacts }
  | { readonly kind: 'container'; readonly facts: ContainerFacts }

/**
 * Finds a sandbox or container by its id, its name, the beginning of its id, or by its pod, as `NAMESPACE/NAME` or as
 * `NAME`, of which the newest sandbox counts.
 * @throws CodedError `NotFound`, or `InvalidArgument` when several begin like that, or are called so.
 */
export function findOwner(
  reference: string,
  sandboxes: readonly SandboxFacts[],
  containers: readonly ContainerFacts[],
): Found {
  const all: readonly Found[] = [
    ...sandboxes.map((facts) => ({ kind: 'sandbox', facts }) as const),
    ...containers.map((facts) => ({ kind: 'container', facts }) as const),
  ]
  const exact = all.find(({ facts: { metadata } }) => metadata.id === reference || metadata.name === reference)
  const found = exact ?? podOf(reference, sandboxes)
  if (found) return found
  const begun = /^[0-9a-f]+$/.test(reference) ? all.filter(({ facts }) => facts.metadata.id.startsWith(reference)) : []
  const [only] = begun
  if (only && begun.length === 1) return only
  if (!only) throw new CodedError('NotFound', `${reference}: no sandbox and no container has that id or name`)
  const some = begun.slice(0, 3).map(({ facts }) => facts.metadata.id.slice(0, reference.length + 4))
  throw new CodedError('InvalidArgument', `${reference}: ${begun.length} ids begin like that (${some.join(', ')}, ...)`)
}

function podOf(reference: string, sandboxes: readonly SandboxFacts[]): Found | undefined {
  const called = sandboxes.filter(({ metadata: { config } }) => {
    const { namespace = '', name = '' } = config.metadata ?? {}
    return name !== '' && (name === reference || `${namespace}/${name}` === reference)
  })
  const namespaces = new Set(called.map(({ metadata: { config } }) => config.metadata?.namespace ?? ''))
  if (namespaces.size > 1) {
    const where = [...namespaces].toSorted().slice(0, 5).join(', ')
    throw new CodedError(
      'InvalidArgument',
      `${reference}: there are pods of that name in several namespaces (${where})`,
    )
  }
  const facts = called.reduce<SandboxFacts | undefined>((newest, next) => {
    return newest && newest.metadata.createdAtNs > next.metadata.createdAtNs ? newest : next
  }, undefined)
  return facts && { kind: 'sandbox', facts }
}
