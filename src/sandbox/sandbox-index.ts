import { hasLabels, OwnerIndex } from '../lifecycle/owner-index.ts'
import type { Sandbox } from './sandbox.ts'
import type { SandboxFilter } from './types.ts'

/** The sandboxes of our own CRI, by id and by name. */
export class SandboxIndex extends OwnerIndex<Sandbox> {
  constructor() {
    super('pod_sandbox_id', 'sandboxes')
  }
}

/**
 * Whether the CRI may show a sandbox: not while its creation is under way, no more once its removal was asked for, and
 * never one that is served to another front end.
 */
export function isListed({ status, metadata }: Sandbox): boolean {
  return status.visible && status.state !== 'REMOVING' && metadata.served === undefined
}

/** READY in the CRI. */
export function isReady({ status, quarantined }: Sandbox): boolean {
  return status.state === 'RUNNING' && quarantined === ''
}

/** All conditions of the filter must hold; the id may be the beginning of one. */
export function matches(sandbox: Sandbox, filter: SandboxFilter): boolean {
  if (filter.id !== undefined && !sandbox.id.startsWith(filter.id)) return false
  return hasLabels(sandbox, filter.labels)
}
