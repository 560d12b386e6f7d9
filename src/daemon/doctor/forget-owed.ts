import { ledgerLine } from '../../admin/ledger-lines.ts'
import { CodedError } from '../../core/errors.ts'
import type { LedgerEntry } from '../../store/ledger.ts'
import type { Logger } from '../../telemetry/logger.ts'
import type { Node } from '../node.ts'

export interface ForgetDeps {
  readonly node: Pick<Node, 'sandboxes' | 'containers'>
  readonly logger: Pick<Logger, 'warn'>
}

/**
 * Strikes out an entry whose release is owed, since a person says that there is nothing left to release, or that it can
 * stay. The log keeps what it was. What else its sandbox or container owes is tried again before this returns.
 * @throws CodedError `NotFound`, or `FailedPrecondition` when its release is not owed.
 */
export async function forgetOwed(ownerId: string, seq: number, { node, logger }: ForgetDeps): Promise<LedgerEntry> {
  const { sandboxes, containers } = node
  const isContainer = containers.all().some(({ id }) => id === ownerId)
  const manager = isContainer ? containers : sandboxes
  const forgotten = await manager.alone(ownerId, async () => {
    const owner = [...sandboxes.all(), ...containers.all()].find(({ id }) => id === ownerId)
    const entry = owner?.entries.find((candidate) => candidate.seq === seq)
    if (!owner || !entry) throw new CodedError('NotFound', `ledger ${ownerId} ${seq}: there is no such entry`)
    if (entry.state !== 'releasing') {
      const why = `its release is not owed: it is ${entry.state}, and is released when its owner is stopped or removed`
      throw new CodedError('FailedPrecondition', `ledger ${ownerId} ${seq} (${entry.kind}): ${why}`)
    }
    await owner.save({ strike: [entry] })
    logger.warn({ id: ownerId, entry: ledgerLine(entry) }, 'release given up, as somebody has asked for')
    return entry
  })
  await manager.retryOwed(ownerId)
  return forgotten
}
