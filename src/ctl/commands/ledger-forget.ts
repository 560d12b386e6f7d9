import type { Forgotten, LedgerLine } from '../../admin/api.ts'
import { UsageError } from '../../cli/args.ts'
import { CodedError } from '../../core/errors.ts'
import { defineCommand } from '../command.ts'
import { printLedger } from '../ledger-table.ts'

/** The daemon releases meanwhile what else is owed. */
const FORGET_MS = 130_000

export const command = defineCommand({
  usage: '[--yes] [--json] ID SEQ',
  description: `Gives up one entry of the ledger whose release is owed ("releasing"), and which can never be released: a network of which the plugin or a usable configuration is gone for good, a mount on a server that does not come back. The entry is struck off the record, and what it was is written to the log; the daemon goes on with what else that sandbox or container owes, and nobody tries to release the entry any more. What is still there of it is left on this machine: look first, and clean up by hand, or see what doctor finds afterwards.

ID is the owner, or the beginning of its id, and SEQ the number of the entry, both as "sandboxerctl ledger --owed" shows them. Without --yes it only shows the entry, and ends with 1. It needs the daemon.

  sandboxerctl ledger --owed
  sandboxerctl ledger forget --yes 3f1c 4`,
  options: { yes: { type: 'boolean', description: 'do it' } },
  operands: [2, 2],
  async run({ out, options, operands: [id = '', seq = ''], admin }) {
    if (id === '' || !/^\d{1,9}$/.test(seq)) {
      throw new UsageError('ledger forget: ID must not be empty, and SEQ must be the number of an entry')
    }
    const client = await admin()
    const entry = find(await client.call<readonly LedgerLine[]>('/v1/ledger'), id, Number(seq))
    if (!options.yes) {
      const shown: Forgotten = { entry, left: null }
      if (out.isJson) out.json(shown)
      else printLedger(out, [entry])
      out.note('nothing was changed: --yes gives it up, and leaves what there is of it to you')
      return 1
    }
    const path = `/v1/ledger/${entry.ownerId}/${entry.seq}`
    const forgotten = await client.call<Forgotten>(path, { method: 'DELETE', timeoutMs: FORGET_MS })
    if (out.isJson) out.json(forgotten)
    else {
      out.line(`given up: ${entry.kind} ${entry.subject}`)
      const owed = forgotten.left?.filter(({ state }) => state === 'releasing') ?? []
      if (owed.length > 0) printLedger(out, owed)
    }
    return 0
  },
})

/** @throws CodedError when there is no such entry, or its release is not owed, or the id is not of one owner only. */
function find(lines: readonly LedgerLine[], id: string, seq: number): LedgerLine {
  const owned = lines.filter(({ ownerId }) => ownerId.startsWith(id))
  const owners = new Set(owned.map(({ ownerId }) => ownerId))
  if (owners.size > 1) throw new CodedError('InvalidArgument', `${id}: ${owners.size} ids begin like that`)
  const entry = owned.find((line) => line.seq === seq)
  if (!entry)
    throw new CodedError('NotFound', `${id} ${seq}: the ledger has no such entry (sandboxerctl ledger --owed)`)
  if (entry.state === 'releasing') return entry
  const why = `it is ${entry.state}, and is released when its owner is stopped or removed`
  throw new CodedError('FailedPrecondition', `${id} ${seq} (${entry.kind}): its release is not owed: ${why}`)
}
