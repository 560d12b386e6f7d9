import type { CniAttachment } from '../../cni/attachment.ts'
import type { CniNetworks } from '../../cni/cni-networks.ts'
import type { CniResult } from '../../cni/result.ts'
import { CodedError } from '../../core/errors.ts'
import type { ResourceKind } from '../../core/resource.ts'

/** One attachment of a pod to a network, with the result of its ADD once there is one. */
export interface CniRecord {
  readonly attachment: CniAttachment
  readonly result: CniResult | null
}

/** CNI attachments. DEL runs with the configuration and arguments that the record has kept from ADD. */
export class CniAttachments implements ResourceKind<CniRecord> {
  readonly kind = 'cni'
  readonly #networks: CniNetworks

  constructor(deps: { readonly networks: CniNetworks }) {
    this.#networks = deps.networks
  }

  parse(record: unknown): CniRecord {
    const { attachment, result } = (record ?? {}) as Partial<CniRecord>
    if (typeof attachment?.containerId !== 'string' || !Array.isArray(attachment.config.plugins)) {
      throw new CodedError('DataLoss', 'cni record: it does not hold an attachment')
    }
    return { attachment, result: result ?? null }
  }

  async release(record: CniRecord, signal: AbortSignal): Promise<void> {
    await this.#networks.del(record.attachment, record.result, signal)
  }

  async probe(record: CniRecord): Promise<boolean> {
    return record.result !== null
  }

  /** What plugins keep is theirs: they are asked to drop what is not in the ledger by CNI GC. */
  async listOwned(): Promise<readonly never[]> {
    return []
  }
}
