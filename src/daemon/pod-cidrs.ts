import type { CniNetworks } from '../cni/cni-networks.ts'
import { errorMessage } from '../core/errors.ts'
import type { Loaded } from '../store/rows.ts'
import type { Store } from '../store/store.ts'
import type { Logger } from '../telemetry/logger.ts'

const KEY = 'pod_cidrs'

/** Takes up the pod CIDRs that the kubelet told an earlier daemon. What cannot be read keeps no daemon from starting. */
export function restorePodCidrs(
  { node }: Pick<Loaded, 'node'>,
  { networks, logger }: { readonly networks: Pick<CniNetworks, 'setPodCidrs'>; readonly logger: Logger },
): void {
  const stored = node[KEY]
  if (stored === undefined) return
  try {
    networks.setPodCidrs(JSON.parse(stored) as string[])
  } catch (error) {
    logger.warn({ error: errorMessage(error) }, 'pod CIDRs on record are not usable; the kubelet tells them again')
  }
}

/** Has the next daemon know them, too. Never throws. */
export async function savePodCidrs(
  cidrs: readonly string[],
  { store, logger }: { readonly store: Pick<Store, 'commit'>; readonly logger: Logger },
): Promise<void> {
  try {
    await store.commit([{ op: 'putNode', key: KEY, value: JSON.stringify(cidrs) }])
  } catch (error) {
    logger.warn({ error: errorMessage(error) }, 'pod CIDRs cannot be saved; the kubelet tells them again')
  }
}
