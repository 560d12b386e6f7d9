import { defineCommand } from '../command.ts'

export const command = defineCommand({
  usage: '[--defaults] [--json]',
  description: `Prints the configuration as a daemon that is started now would use it: the file, what --set changes, and the defaults of all else. It is a configuration file; with --json it is what the daemon makes of it, with all paths derived.`,
  options: {
    defaults: { type: 'boolean', description: 'the embedded defaults with all explanations instead' },
  },
  operands: [0, 0],
  async run({ out, options, config }) {
    if (options.defaults) {
      const { defaultConfigToml } = await import('../../config/default-toml.ts')
      out.text(defaultConfigToml())
      return 0
    }
    const { config: used, settings, file } = await config()
    if (out.isJson) {
      out.json({ file: file ?? null, config: used })
      return 0
    }
    const { stringify } = await import('smol-toml')
    out.line(`# ${file ?? 'embedded defaults'}`)
    out.text(stringify(settings))
    return 0
  },
})
