import type { Inspection } from '../../admin/api.ts'
import { UsageError } from '../../cli/args.ts'
import { defineCommand } from '../command.ts'
import { shortId } from '../format.ts'
import type { Output } from '../output.ts'
import { daemonOrFiles, OFFLINE_OPTION } from '../source.ts'
import { styled } from '../style.ts'

export const command = defineCommand({
  usage: '[--offline] [--json] ID',
  description: `Shows everything that is on record of one sandbox or container side by side: its row, its checkpoint and whether that holds, its ledger, the result of its networks, and what the runtime, the shim or the remote sandboxer says of it now. What does not hold, or does not fit, comes first.

ID is an id, the beginning of one, the name of a pod, NAMESPACE/NAME of one, or the name of a sandbox or container as the row has it. The answer holds the configuration of the pod with all that stands in it, secrets as well. Without a daemon it tells what is on record, and whether the process runs.

It ends with 1 when something does not hold.`,
  options: OFFLINE_OPTION,
  operands: [1, 1],
  async run(call) {
    const { out } = call
    const id = call.operands[0] ?? ''
    if (id === '') throw new UsageError('inspect: ID must not be empty')
    const found = await daemonOrFiles(
      call,
      (admin) => admin.call<Inspection>(`/v1/inspect/${encodeURIComponent(id)}`),
      async (records, { config }) => {
        const { inspectRecords } = await import('../offline-inspection.ts')
        return inspectRecords(id, records, config)
      },
    )
    if (out.isJson) out.json(found)
    else print(out, found)
    return found.problems.length === 0 ? 0 : 1
  },
})

function print(
  out: Output,
  { id, kind, name, state, row, checkpoint, ledger, network, runtime, problems }: Inspection,
): void {
  out.line(styled('bold', `${kind} ${id}`))
  out.line(`name   ${name}`)
  out.line(`state  ${state}`)
  for (const problem of problems) out.line(styled('red', `wrong  ${problem}`))
  section(out, row === null ? 'row: none' : `row (${row.isSealed ? 'sealed' : 'not sealed by us'})`, row?.columns)
  const how = checkpoint === null ? 'none' : `${checkpoint.path} (${checkpoint.problem ?? 'verified'})`
  section(out, `checkpoint: ${how}`, checkpoint?.content)
  section(out, `ledger of ${shortId(id)}`, undefined)
  out.table(
    [{ title: '#', right: true }, { title: 'KIND' }, { title: 'STATE' }, { title: 'WHAT' }],
    ledger.map((line) => [String(line.seq), line.kind, line.state, line.subject]),
  )
  section(out, network === null ? 'network: none' : 'network', network)
  section(out, runtime === null ? 'runtime: nothing is known' : 'runtime', runtime)
}

function section(out: Output, title: string, content: unknown): void {
  out.line()
  out.line(styled('bold', title))
  if (content !== undefined && content !== null) out.json(content)
}
