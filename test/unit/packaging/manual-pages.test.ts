import { describe, expect, it } from 'vitest'
import { describeConfig } from '../../../src/config/describe.ts'
import { DAEMON_USAGE } from '../../../src/cli/args.ts'
import { COMMANDS } from '../../../src/ctl/commands.ts'
import { commandText, overviewText } from '../../../src/ctl/help.ts'
import { configPage, ctlPage, daemonPage } from '../../support/manual-pages.ts'

const DIRECTORY = '../../../packaging/man'

/** The long options that a text speaks of. */
function optionsIn(text: string): Set<string> {
  const read = text.replaceAll('\\-', '-').replaceAll(/\\f[A-Z]/g, '')
  return new Set([...read.matchAll(/(?<![\w-])--[a-z][\w-]*/g)].map(([option]) => option))
}

describe('the manual pages', () => {
  it('are made from the help and the schema (vitest -u writes them anew)', async () => {
    await expect(daemonPage()).toMatchFileSnapshot(`${DIRECTORY}/sandboxerd.8`)
    await expect(await ctlPage()).toMatchFileSnapshot(`${DIRECTORY}/sandboxerctl.8`)
    await expect(configPage()).toMatchFileSnapshot(`${DIRECTORY}/sandboxerd.toml.5`)
  })

  it('have every option of the daemon, and no other', () => {
    expect(optionsIn(daemonPage())).toEqual(optionsIn(DAEMON_USAGE))
  })

  it('have every command of sandboxerctl with its options, as its help has', async () => {
    const page = (await ctlPage()).replaceAll('\\-', '-')
    const sections = new Map(page.split('\n.SS ').map((text) => [text.slice(0, text.indexOf('\n')), text]))
    for (const option of optionsIn(overviewText(COMMANDS))) expect(optionsIn(page)).toContain(option)
    for (const entry of COMMANDS) {
      const { command } = await entry.load()
      const [, section = ''] =
        [...sections].find(([title]) => title === `${entry.name} ${command.usage}`.trimEnd()) ?? []
      const [, own = ''] = /\nOptions:\n([^]*?)\n\n/.exec(commandText(entry, command)) ?? []
      for (const option of optionsIn(own)) expect(optionsIn(section), entry.name).toContain(option)
      expect(optionsIn(own).size, entry.name).toBeGreaterThanOrEqual(Object.keys(command.options).length)
    }
  })

  it('have every key of the configuration', () => {
    const page = configPage()
    for (const { name, keys } of describeConfig()) {
      if (name !== '') expect(page).toContain(`[${name}`)
      for (const key of keys) expect(page).toContain(`\n\\fB${key.name} `)
    }
  })
})
