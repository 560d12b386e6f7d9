import { defineCommand } from '../command.ts'

export const command = defineCommand({
  usage: '[--json] ID',
  description: `Prints the checkpoint of a sandbox or container: what it is, and what it was given. What cannot be verified is printed as far as it can be read. It reads the file itself, whether the daemon runs or not. The configuration of the pod is part of it, with all that stands there, secrets as well.

It ends with 1 when the checkpoint does not hold.`,
  options: {},
  operands: [1, 1],
  async run({ out, operands, config }) {
    const { readOffline } = await import('../offline.ts')
    const { recordedCheckpoint } = await import('../offline-inspection.ts')
    const { config: roots } = await config()
    const id = operands[0] ?? ''
    const checkpoint = await recordedCheckpoint(id, await readOffline(roots), roots)
    if (!checkpoint) {
      out.note(`${id} has no checkpoint`)
      return 1
    }
    if (out.isJson) out.json(checkpoint)
    else {
      out.line(`# ${checkpoint.path}: ${checkpoint.problem ?? 'verified'}`)
      out.json(checkpoint.content)
    }
    return checkpoint.problem === null ? 0 : 1
  },
})
