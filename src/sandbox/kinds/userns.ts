import type { OwnedResource, ResourceKind } from '../../core/resource.ts'
import type { Kernel } from '../../host/kernel/kernel.ts'
import { isPinnedNamespace } from '../../host/kernel/namespace-file.ts'
import type { UserMappings } from '../../oci/user-namespace.ts'
import { type SandboxRoots, sandboxesDir } from '../paths.ts'
import { type StateMountRecord, StateMounts } from '../../lifecycle/state-mounts.ts'

export type UsernsRecord = StateMountRecord

/** The user namespaces of pods, pinned by bind mounts. A pod's is there before its other namespaces, which it owns. */
export class UsernsPins implements ResourceKind<UsernsRecord> {
  readonly kind = 'userns'
  readonly #mounts: StateMounts
  readonly #kernel: Kernel

  constructor(roots: SandboxRoots, deps: { readonly kernel: Kernel }) {
    this.#mounts = new StateMounts({ parent: sandboxesDir(roots.state), name: /^user$/, what: 'the user of a sandbox' })
    this.#kernel = deps.kernel
  }

  /** Makes the namespace. Its sandbox's state directory must be there. */
  async acquire({ path }: UsernsRecord, { uidMappings, gidMappings }: UserMappings): Promise<void> {
    await this.#kernel.pinUserns({ path, uids: uidMappings, gids: gidMappings })
  }

  parse(record: unknown): UsernsRecord {
    return this.#mounts.parse(record)
  }

  async release(record: UsernsRecord): Promise<void> {
    await this.#kernel.unpin(record.path)
  }

  async probe(record: UsernsRecord): Promise<boolean> {
    return isPinnedNamespace(record.path)
  }

  async listOwned(): Promise<readonly OwnedResource[]> {
    return this.#mounts.list()
  }
}
