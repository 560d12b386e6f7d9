import type { LedgerLine } from '../../admin/api.ts'
import { CodedError } from '../../core/errors.ts'
import { defineCommand } from '../command.ts'
import { printLedger } from '../ledger-table.ts'
import { daemonOrFiles, OFFLINE_OPTION } from '../source.ts'

export const command = defineCommand({
  usage: '[--owed] [--offline] [--json] [ID]',
  description: `Lists what sandboxes and containers own on this machine: every directory, mount, namespace, address and process, in the order in which each was made. With an ID, or the beginning of one, only what that owns.

"intended" may be there, "held" is there, and of "releasing" the release is owed: it is tried again until it succeeds, and below the table stands why it failed last. What can never be released any more, "sandboxerctl ledger forget" gives up. Without a daemon it tells what is on record.`,
  options: {
    owed: { type: 'boolean', description: 'only what is to be released' },
    ...OFFLINE_OPTION,
  },
  operands: [0, 1],
  async run(call) {
    const { out, options, operands } = call
    const all = await daemonOrFiles(
      call,
      (admin) => admin.call<readonly LedgerLine[]>('/v1/ledger'),
      async ({ sandboxes, containers }) => {
        const { ledgerLines } = await import('../../admin/ledger-lines.ts')
        return ledgerLines([...sandboxes, ...containers].flatMap(({ entries }) => entries))
      },
    )
    const [wanted = ''] = operands
    const owned = all.filter(({ ownerId }) => ownerId.startsWith(wanted))
    if (owned.length === 0 && wanted !== '') {
      throw new CodedError('NotFound', `${wanted}: nothing on record is owned by an id that begins like that`)
    }
    const lines = owned.filter(({ state }) => !options.owed || state === 'releasing')
    if (out.isJson) out.json(lines)
    else printLedger(out, lines)
    return 0
  },
})
