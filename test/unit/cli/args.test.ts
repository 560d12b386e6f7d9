import { describe, expect, it } from 'vitest'
import { DAEMON_USAGE, parseDaemonArgs, UsageError } from '../../../src/cli/args.ts'

describe('parseDaemonArgs', () => {
  it('runs on the default configuration without arguments', () => {
    expect(parseDaemonArgs([])).toEqual({ action: 'run', configPath: undefined, overrides: [] })
  })

  it('takes a file and overrides in order', () => {
    expect(parseDaemonArgs(['--config', '/c.toml', '--set', 'log.level=debug', '--set=cri.mode=0o600'])).toEqual({
      action: 'run',
      configPath: '/c.toml',
      overrides: [
        { path: ['log', 'level'], value: 'debug' },
        { path: ['cri', 'mode'], value: 0o600 },
      ],
    })
  })

  it.each([
    [['--check-config', '--config=/c'], 'check-config'],
    [['--print-default-config'], 'print-default-config'],
    [['--version'], 'version'],
    [['--check-config', '--version'], 'version'],
    [['--version', '--help'], 'help'],
    [['--prepare-downgrade', '2', '--config=/c'], 'prepare-downgrade'],
    [['-h'], 'help'],
  ])('%j → %s', (argv, action) => {
    expect(parseDaemonArgs(argv).action).toBe(action)
  })

  it.each([
    [['--no-such'], "Unknown option '--no-such'"],
    [['--config'], "Option '--config <value>' argument missing"],
    [['--config', '--version'], "Option '--config' argument is ambiguous"],
    [['--config='], '--config must name a file'],
    [['--config', '/a', '--config', '/b'], '--config may be given only once'],
    [['--version=1'], "Option '-"],
    [['stray'], "Unexpected argument 'stray'"],
    [['--set', 'log.level'], '--set "log.level": must be key.path=value'],
    [['--print-default-config', '--check-config'], 'do not go together'],
    [['--prepare-downgrade=0'], 'must be the version of a schema'],
    [['--prepare-downgrade=0.1.0'], 'must be the version of a schema'],
    [['--prepare-downgrade=1', '--check-config'], '--check-config and --prepare-downgrade do not go together'],
    [['--print-default-config', '--config', '/c'], 'takes neither --config nor --set'],
  ])('refuses %j with exit code 2', (argv, message) => {
    let thrown: unknown
    try {
      parseDaemonArgs(argv)
    } catch (error) {
      thrown = error
    }
    expect(thrown).toBeInstanceOf(UsageError)
    expect(thrown).toHaveProperty('exitCode', 2)
    expect((thrown as Error).message).toContain(message)
    expect((thrown as Error).message).not.toContain('\n')
  })

  it('explains every option that it takes', () => {
    for (const option of DAEMON_USAGE.match(/^ {2}--[\w-]+/gm) ?? []) {
      const takesValue = ['--config', '--set', '--prepare-downgrade'].includes(option.trim())
      const value = option.trim() === '--prepare-downgrade' ? '1' : 'a=b'
      expect(() => parseDaemonArgs(takesValue ? [option.trim(), value] : [option.trim()])).not.toThrow()
    }
  })
})
