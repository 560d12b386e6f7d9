import { UsageError } from '../../cli/args.ts'
import { defineCommand } from '../command.ts'
import { styled } from '../style.ts'

export const command = defineCommand({
  usage: '[--json] [LEVEL | ROOM=LEVEL]...',
  description: `Shows the log levels of the running daemon, or changes them until it is restarted, or until its configuration is read again. LEVEL is trace, debug, info, warn or error; an empty one takes the level of a room back to that of all.

  sandboxerctl log-level
  sandboxerctl log-level debug
  sandboxerctl log-level cni=debug grpc=trace
  sandboxerctl log-level cni=`,
  options: {},
  operands: [0, 64],
  async run({ out, operands, admin }) {
    const body = Object.fromEntries(operands.map(parseLevel))
    const client = await admin()
    const levels = await client.call<Readonly<Record<string, string>>>(
      '/v1/log-levels',
      operands.length === 0 ? {} : { method: 'PUT', body },
    )
    if (out.isJson) {
      out.json(levels)
      return 0
    }
    const all = levels[''] ?? ''
    const rows = Object.entries(levels).filter(([room]) => room !== '')
    out.table(
      [{ title: 'ROOM' }, { title: 'LEVEL' }],
      [['(all)', all], ...rows.map(([room, level]) => [room, level === '' ? styled('dim', all) : level])],
    )
    return 0
  },
})

function parseLevel(text: string): [room: string, level: string] {
  const at = text.indexOf('=')
  const [room, level] = at === -1 ? ['', text] : [text.slice(0, at), text.slice(at + 1)]
  if (at === 0 || (room === '' && level === '')) throw new UsageError(`log-level ${text}: must be LEVEL or ROOM=LEVEL`)
  return [room, level]
}
