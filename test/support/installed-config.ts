import { defaultConfigToml } from '../../src/config/default-toml.ts'

const HEAD = `# The configuration of sandboxerd; see sandboxerd.toml(5). What stands here are the defaults, and nothing is set: to set a key,
# take the # away from its line and from the [table] above it. sandboxerd --check-config looks for mistakes.
`

/** /etc/sandboxerd/config.toml as packages install it: every default, and every line a comment. */
export function installedConfig(): string {
  // The first paragraph speaks of a file that sets them.
  const [, ...paragraphs] = defaultConfigToml().split('\n\n')
  return [HEAD, paragraphs.join('\n\n').replaceAll(/^(?=[^#\n])/gm, '#')].join('\n')
}
