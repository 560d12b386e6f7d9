import type { CniNetworks } from '../cni/cni-networks.ts'
import type { NetnsPins, NetnsRecord } from '../netns/netns.ts'
import type { LedgerEntry } from '../store/ledger.ts'
import type { CniRecord } from './kinds/cni.ts'
import type { ControlledRecord } from './kinds/controlled.ts'
import type { DirectoryRecord } from './kinds/directory.ts'
import type { ShmRecord } from './kinds/shm.ts'
import type { SandboxPaths } from './paths.ts'
import type { SandboxMetadata } from './types.ts'

/** Everything that one sandbox is going to own. */
export interface Resources {
  readonly directories: readonly DirectoryRecord[]
  readonly shm: ShmRecord | null
  readonly netns: NetnsRecord | null
  readonly attachments: readonly CniRecord[]
  readonly controlled: ControlledRecord
}

/**
 * Decides what a sandbox is going to own; nothing is made.
 * @throws CodedError `FailedPrecondition` when it needs a network and there is none, `InvalidArgument` naming the field.
 */
export function planResources(
  metadata: SandboxMetadata,
  paths: SandboxPaths,
  controlled: ControlledRecord,
  deps: { readonly networks: CniNetworks; readonly netns: NetnsPins },
): Resources {
  const { id, netnsPath, config } = metadata
  const ownsNetwork = metadata.netMode === 'cni'
  const ownsIpc = config.linux?.security_context?.namespace_options?.ipc !== 'NODE'
  const attachments = ownsNetwork ? deps.networks.plan({ id, netnsPath, config }) : []
  return {
    directories: [{ path: paths.rootDir }, { path: paths.stateDir }],
    shm: ownsIpc ? { path: paths.shm } : null,
    netns: ownsNetwork ? deps.netns.plan(id) : null,
    attachments: attachments.map((attachment) => ({ attachment, result: null })),
    controlled,
  }
}

/** The ledger entries of what is about to be made, in the order of making. */
export function intents(resources: Resources, sandboxId: string, bootId: string): LedgerEntry[] {
  const { directories, shm, netns, attachments, controlled } = resources
  const records: { kind: string; record: unknown }[] = [
    ...directories.map((record) => ({ kind: 'directory', record })),
    ...(shm ? [{ kind: 'shm', record: shm }] : []),
    ...(netns ? [{ kind: 'netns', record: netns }] : []),
    ...attachments.map((record) => ({ kind: 'cni', record })),
    { kind: 'controller', record: controlled },
  ]
  return records.map(({ kind, record }, seq) => ({ sandboxId, seq, kind, state: 'intended' as const, record, bootId }))
}
