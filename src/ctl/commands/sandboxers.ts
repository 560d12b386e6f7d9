import type { SandboxerStatus } from '../../admin/api.ts'
import { defineCommand } from '../command.ts'
import { durationText } from '../format.ts'
import { styled } from '../style.ts'

export const command = defineCommand({
  usage: '[--json]',
  description: `Lists who runs sandboxes on this node: what is part of the daemon, and the remote sandboxers of [sandboxers], with their address, whether each answers (a call of Platform), how long that took, and how many sandboxes it has.

It ends with 1 when one of them does not answer.`,
  options: {},
  operands: [0, 0],
  async run({ out, admin }) {
    const sandboxers = await (await admin()).call<readonly SandboxerStatus[]>('/v1/sandboxers')
    if (out.isJson) out.json(sandboxers)
    else {
      out.table(
        [
          { title: 'NAME' },
          { title: 'ADDRESS' },
          { title: 'REACHABLE' },
          { title: 'LATENCY', right: true },
          { title: 'SANDBOXES', right: true },
          { title: 'PROBLEM' },
        ],
        sandboxers.map(({ name, address, reachable, latencyMs, problem, sandboxes }) => [
          name,
          address ?? '(part of the daemon)',
          reachable ? styled('green', 'yes') : styled('red', 'no'),
          address === null ? '-' : durationText(latencyMs),
          String(sandboxes),
          problem ?? '',
        ]),
      )
    }
    return sandboxers.every(({ reachable }) => reachable) ? 0 : 1
  },
})
