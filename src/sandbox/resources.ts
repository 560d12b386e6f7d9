import { CodedError } from '../core/errors.ts'
import type { CniNetworks } from '../cni/cni-networks.ts'
import type { ReleaseChain } from '../lifecycle/release.ts'
import type { NetnsPins, NetnsRecord } from '../netns/netns.ts'
import { podNamespaces } from '../oci/namespaces.ts'
import { intents, type LedgerEntry } from '../store/ledger.ts'
import type { CniRecord } from './kinds/cni.ts'
import type { ControlledRecord } from './kinds/controlled.ts'
import type { FrontEndPlaces, FrontEndRecord } from './kinds/front-end.ts'
import type { DirectoryRecord } from '../lifecycle/directories.ts'
import type { ShmRecord } from './kinds/shm.ts'
import type { UsernsRecord } from './kinds/userns.ts'
import type { SandboxPaths } from './paths.ts'
import type { SandboxMetadata } from './types.ts'

/** Everything that one sandbox is going to own. */
export interface Resources {
  readonly directories: readonly DirectoryRecord[]
  readonly shm: ShmRecord | null
  readonly userns: UsernsRecord | null
  readonly netns: NetnsRecord | null
  readonly attachments: readonly CniRecord[]
  readonly frontEnd: FrontEndRecord | null
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
  deps: { readonly networks: CniNetworks; readonly netns: NetnsPins; readonly frontEnd: FrontEndPlaces },
): Resources {
  const { id, netnsPath, config, served } = metadata
  // That of a served one is its front end's.
  const ownsNetwork = metadata.netMode === 'cni' && !served
  const { ownsIpc, ownsUser } = podNamespaces(config.linux?.security_context?.namespace_options ?? null)
  const attachments = ownsNetwork ? deps.networks.plan({ id, netnsPath, config }) : []
  return {
    directories: [{ path: paths.rootDir }, { path: paths.stateDir }],
    shm: ownsIpc ? { path: paths.shm } : null,
    userns: ownsUser ? { path: paths.userns } : null,
    netns: ownsNetwork ? deps.netns.plan(id) : null,
    attachments: attachments.map((attachment) => ({ attachment, result: null })),
    frontEnd: served ? deps.frontEnd.plan(id, ownsIpc) : null,
    controlled,
  }
}

/** The ledger entries of what is about to be made, in the order of making. */
export function sandboxIntents(resources: Resources, sandboxId: string, bootId: string): LedgerEntry[] {
  const { directories, shm, userns, netns, attachments, frontEnd, controlled } = resources
  const records: { kind: string; record: unknown }[] = [
    ...directories.map((record) => ({ kind: 'directory', record })),
    ...(shm ? [{ kind: 'shm', record: shm }] : []),
    ...(userns ? [{ kind: 'userns', record: userns }] : []),
    ...(netns ? [{ kind: 'netns', record: netns }] : []),
    ...attachments.map((record) => ({ kind: 'cni', record })),
    ...(frontEnd ? [{ kind: 'frontend', record: frontEnd }] : []),
    { kind: 'controller', record: controlled },
  ]
  return intents(records, sandboxId, bootId)
}

/** What was planned for a sandbox, by its ledger. All of its entries must be there. */
export function plannedResources(entries: readonly LedgerEntry[]): Resources {
  const all = <T>(kind: string): T[] => entries.flatMap((entry) => (entry.kind === kind ? [entry.record as T] : []))
  const [controlled] = all<ControlledRecord>('controller')
  if (!controlled) throw new CodedError('DataLoss', 'ledger: controller is missing')
  return {
    directories: all('directory'),
    shm: all<ShmRecord>('shm')[0] ?? null,
    userns: all<UsernsRecord>('userns')[0] ?? null,
    netns: all<NetnsRecord>('netns')[0] ?? null,
    attachments: all('cni'),
    frontEnd: all<FrontEndRecord>('frontend')[0] ?? null,
    controlled,
  }
}

/** Everything that a sandbox holds only while it runs. */
export const RUNNING_KINDS: readonly string[] = ['controller', 'cni', 'netns', 'userns', 'frontend', 'shm']

/**
 * How that is released. With `keepNetnsForCni` the network namespace stays while a CNI DEL is owed, since plugins clean
 * up more when it is there.
 */
export function releaseChains(options: { readonly keepNetnsForCni: boolean }): readonly ReleaseChain[] {
  return [
    { kinds: ['controller'], strict: false },
    { kinds: ['cni', 'netns', 'userns'], strict: options.keepNetnsForCni },
    { kinds: ['frontend', 'shm'], strict: false },
  ]
}
