import type { CniAttachment } from '../cni/attachment.ts'
import type { CniNetworks } from '../cni/cni-networks.ts'
import type { CniRecord } from '../sandbox/kinds/cni.ts'
import type { SandboxManager } from '../sandbox/sandbox-manager.ts'

/** Asks plugins that can (CNI 1.1 GC) to drop what they keep for pods that the ledger does not know. */
export async function collectStaleAttachments(
  manager: SandboxManager,
  networks: CniNetworks,
  signal: AbortSignal,
): Promise<void> {
  const valid = (): CniAttachment[] =>
    manager
      .all()
      .flatMap(({ entries }) =>
        entries.filter(({ kind }) => kind === 'cni').map(({ record }) => (record as CniRecord).attachment),
      )
  await networks.gc(valid, signal)
}
