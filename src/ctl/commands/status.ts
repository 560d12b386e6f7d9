import type { DaemonStatus } from '../../admin/api.ts'
import { defineCommand } from '../command.ts'
import { ageText, durationText, shortId } from '../format.ts'
import type { Output } from '../output.ts'
import { styled, type Text } from '../style.ts'

export const command = defineCommand({
  usage: '[--json]',
  description: `Tells how the running daemon is: its version and sockets, whether it can run pods, how many sandboxes and containers there are, and what it is doing.

It ends with 1 when the daemon does not run, or cannot run pods (one of the conditions does not hold).`,
  options: {},
  operands: [0, 0],
  async run({ out, admin }) {
    const status = await (await admin()).call<DaemonStatus>('/v1/status')
    if (out.isJson) out.json(status)
    else print(out, status)
    return Object.values(status.conditions).every((holds) => holds === true) ? 0 : 1
  },
})

function print(out: Output, status: DaemonStatus): void {
  const { version, pid, startedAt, config, sockets, schemaVersion, recovered, owed, running } = status
  const rows: (readonly [string, Text])[] = [
    ['version', version],
    ['pid', `${pid}, for ${ageText(startedAt)}`],
    ['configuration', config ?? 'embedded defaults'],
    ...Object.entries(sockets).map(([name, path]) => [`${name} at`, path] as const),
    ['schema', String(schemaVersion)],
    ['recovered', recovered ? 'yes' : styled('yellow', 'not yet')],
    ...Object.entries(status.conditions).map(([name, holds]) => [name, conditionText(holds)] as const),
    ['sandboxes', countsText(status.sandboxes)],
    ['containers', countsText(status.containers)],
    ['releases owed', owed === 0 ? '0' : styled('yellow', String(owed))],
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  for (const [name, value] of rows) out.line(name.padEnd(width), '  ', value)
  for (const { id, name, steps, sinceMs } of running) {
    const doing = steps.length === 0 ? '' : `: ${steps.join(', ')}`
    out.line('under way'.padEnd(width), '  ', `${name} ${shortId(id)}, for ${durationText(sinceMs)}${doing}`)
  }
}

function conditionText(holds: true | string): Text {
  return holds === true ? styled('green', 'yes') : styled('red', `no: ${holds}`)
}

function countsText(counts: Readonly<Record<string, number>>): string {
  const parts = Object.entries(counts).map(([state, count]) => `${count} ${state}`)
  return parts.length === 0 ? 'none' : parts.join(', ')
}
