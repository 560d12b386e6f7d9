import { describe, expect, it } from 'vitest'
import { run } from '../../../src/host/programs/run.ts'
import { completions } from '../../support/completions.ts'

const DIRECTORY = '../../../packaging/completion'
const FILES = { bash: 'NAME.bash', zsh: '_NAME', fish: 'NAME.fish' } as const

/** What bash offers when the cursor is behind the last word. */
async function offered(program: 'sandboxerd' | 'sandboxerctl', ...words: readonly string[]): Promise<string[]> {
  const { bash } = await completions(program)
  const script = `compopt() { :; }\n${bash}\nCOMP_WORDS=(${program} "$@"); COMP_CWORD=$#; _${program}; printf '%s\\n' "\${COMPREPLY[@]}"`
  const { stdout, stderr } = await run('/bin/bash', ['-c', script, 'bash', ...words], { timeoutMs: 10_000 })
  expect(stderr).toBe('')
  return stdout.split('\n').filter((line) => line !== '')
}

describe('completion', () => {
  it.each(['sandboxerd', 'sandboxerctl'] as const)(
    'of %s is made from its help (vitest -u writes it anew)',
    async (program) => {
      for (const [shell, text] of Object.entries(await completions(program))) {
        const file = FILES[shell as keyof typeof FILES].replace('NAME', program)
        await expect(text).toMatchFileSnapshot(`${DIRECTORY}/${file}`)
      }
    },
    // It loads all commands.
    30_000,
  )

  it('knows the options of the daemon', async () => {
    expect(await offered('sandboxerd', '--pr')).toContain('--print-default-config')
    expect(await offered('sandboxerd', '--config', '/etc/host')).toContain('/etc/hostname')
    expect(await offered('sandboxerd', '--set', '')).toEqual([])
  })

  it('knows the commands, those of two words, and the options of each', async () => {
    expect(await offered('sandboxerctl', 'stat')).toEqual(['status'])
    expect(await offered('sandboxerctl', 'checkpoint', '')).toEqual(expect.arrayContaining(['show', 'verify']))
    expect(await offered('sandboxerctl', '--set', 'status', 'conf')).toEqual(['config'])
    expect(await offered('sandboxerctl', 'config', 'print', '--js')).toEqual(['--json'])
    expect(await offered('sandboxerctl', '--socket', '/etc/host')).toContain('/etc/hostname')
  })
})
