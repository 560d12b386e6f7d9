import { describe, expect, it } from 'vitest'
import { findCommand, numberOption, parseCommandArgs } from '../../../src/ctl/args.ts'
import { COMMANDS } from '../../../src/ctl/commands.ts'

function found(...argv: string[]): unknown {
  const asked = findCommand(argv, COMMANDS)
  return asked.kind === 'command' ? [asked.entry.name, ...asked.args] : asked
}

describe('findCommand', () => {
  it.each<[string[], unknown]>([
    [['pods'], ['pods']],
    [
      ['pods', '--steps', 'abc'],
      ['pods', '--steps', 'abc'],
    ],
    [
      ['--config', 'x.toml', '--json', 'pods', 'abc'],
      ['pods', '--config', 'x.toml', '--json', 'abc'],
    ],
    [
      ['--config=x.toml', 'config', 'check'],
      ['config check', '--config=x.toml'],
    ],
    [
      ['checkpoint', 'verify', 'abc'],
      ['checkpoint verify', 'abc'],
    ],
    [
      ['help', 'checkpoint', 'show'],
      ['checkpoint show', '--help'],
    ],
    [['--help'], { kind: 'help', group: undefined }],
    [[], { kind: 'help', group: undefined }],
    [['checkpoint', '--help'], { kind: 'help', group: 'checkpoint' }],
    [['--version'], { kind: 'version' }],
  ])('reads %j', (argv, expected) => {
    expect(found(...argv)).toEqual(expected)
  })

  it.each([
    [['pod'], 'there is no command pod: did you mean pods?'],
    [['stauts'], 'there is no command stauts: did you mean status?'],
    [['checkpoint', 'verfiy'], 'there is no command checkpoint verfiy: did you mean checkpoint verify?'],
    [['chekpoint'], 'did you mean checkpoint?'],
    [['nonsense'], 'sandboxerctl --help lists them'],
    [['checkpoint'], 'checkpoint: which of checkpoint show, checkpoint verify?'],
    [['--steps', 'pods'], '--steps: options of a command stand after its name'],
    [['--json'], 'which command?'],
  ])('explains what is wrong with %j', (argv, message) => {
    expect(() => findCommand(argv, COMMANDS)).toThrow(message)
  })
})

describe('parseCommandArgs', () => {
  const command = {
    usage: '[--steps] ID',
    options: { steps: { type: 'boolean', description: '' }, interval: { type: 'string', description: '' } },
    operands: [1, 1],
  } as const
  const parse = (...args: string[]) => parseCommandArgs('pods', args, command)

  it('parts the options of the command from those of all', () => {
    const { global, options, operands } = parse('--json', 'abc', '--steps', '--set', 'log.level=debug', '--interval=2')
    expect({ ...options }).toEqual({ steps: true, interval: '2' })
    expect(operands).toEqual(['abc'])
    expect(global).toMatchObject({ json: true, overrides: [{ path: ['log', 'level'], value: 'debug' }] })
  })

  it.each([
    [['--stesp', 'abc'], "Unknown option '--stesp'; did you mean --steps?"],
    [['--config', 'a', '--config', 'b', 'abc'], '--config may be given only once'],
    [[], 'usage: sandboxerctl pods [--steps] ID'],
    [['a', 'b'], 'usage: sandboxerctl pods [--steps] ID'],
    [['--set', 'nonsense', 'abc'], 'must be key.path=value'],
  ])('refuses %j', (args, message) => {
    expect(() => parse(...args)).toThrow(message)
  })
})

describe('numberOption', () => {
  it('has a default and bounds', () => {
    const bounds = { byDefault: 2, min: 0.5, max: 10 }
    expect(numberOption('--interval', undefined, bounds)).toBe(2)
    expect(numberOption('--interval', '0.5', bounds)).toBe(0.5)
    for (const text of ['', '0', '11', 'x', 'NaN']) {
      expect(() => numberOption('--interval', text, bounds)).toThrow('must be a number from 0.5 to 10')
    }
  })
})
