import { defineCommand } from '../command.ts'

export const command = defineCommand({
  usage: '[--json]',
  description: `Checks the configuration as the daemon does at its start, and whether this machine fits it: programs, groups, directories. It changes nothing and needs no daemon.

It ends with 1 when the daemon could not be started with it.`,
  options: {},
  operands: [0, 0],
  async run({ out, config }) {
    const { config: checked, file } = await config()
    const { checkHost } = await import('../../config/check-host.ts')
    const problems = await checkHost(checked)
    if (out.isJson) out.json({ file: file ?? null, problems })
    else {
      for (const problem of problems) out.note(problem)
      if (problems.length === 0) out.line(`${file ?? 'embedded defaults'}: ok`)
    }
    return problems.length === 0 ? 0 : 1
  },
})
