import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import { createLogger, type Logger } from '../../../src/telemetry/logger.ts'

function record(format: 'json' | 'pretty', log: (logger: Logger) => void, level: 'info' | 'debug' = 'info'): string[] {
  const lines: string[] = []
  log(createLogger({ level, format }, { write: (line) => lines.push(line) }))
  return lines
}

function parse(line: string | undefined): Record<string, unknown> {
  return JSON.parse(line ?? '') as Record<string, unknown>
}

describe('createLogger: json', () => {
  it('writes one object per line, with the module of the child', () => {
    const lines = record('json', (logger) =>
      logger.child({ module: 'cni' }).info({ sandboxId: 'a1' }, 'pod network set up'),
    )
    expect(lines).toHaveLength(1)
    const { time, ...rest } = parse(lines[0])
    expect(rest).toEqual({ level: 'info', module: 'cni', sandboxId: 'a1', msg: 'pod network set up' })
    expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  })

  it('keeps to the level', () => {
    const log = (logger: Logger): void => {
      logger.debug('call')
      logger.warn('degraded')
    }
    expect(record('json', log)).toHaveLength(1)
    expect(record('json', log, 'debug')).toHaveLength(2)
  })

  it('writes an error with its code, its causes and its stack', () => {
    const error = new CodedError('NotFound', 'read x: gone', { cause: new Error('no such file') })
    const [line] = record('json', (logger) => logger.error({ err: error }, 'cannot read'))
    const { err } = parse(line)
    expect(err).toMatchObject({ code: 'NotFound', message: 'read x: gone: no such file' })
    expect(err).toHaveProperty('stack')
    expect(JSON.stringify(err)).toContain('\\n    at ')
  })

  it('writes no other property of an error: they hold environments and requests', () => {
    const error = Object.assign(new Error('failed'), { options: { env: { A: 'canary-5f1d' } } })
    expect(record('json', (logger) => logger.error({ err: error }, 'cannot run')).join('')).not.toContain('canary-5f1d')
  })
})

describe.each(['json', 'pretty'] as const)('createLogger: secrets in %s', (format) => {
  it('never writes them, at the top, further down, or in what a child is bound to', () => {
    const canary = 'canary-5f1d'
    const lines = record(format, (logger) => {
      logger.info({ password: canary, request: { auth: { password: canary } }, config: { envs: [canary] } }, 'pull')
      logger.info(
        { image: { auth: { username: 'u', identity_token: canary } }, a: { b: { registryToken: canary } } },
        'pull',
      )
      logger.child({ token: canary, env: { A: canary } }).info('bound')
    })
    expect(lines).toHaveLength(3)
    expect(lines.join('')).not.toContain(canary)
    expect(lines.join('')).toContain('[redacted]')
  })
})

describe('createLogger: pretty', () => {
  it('writes time, level, module, message and fields', () => {
    const [line] = record('pretty', (logger) =>
      logger.child({ module: 'cni' }).warn({ ip: '10.0.0.1', ms: 4, tags: ['a b'], what: 'two words' }, 'slow plugin'),
    )
    expect(line).toMatch(
      /^\d\d:\d\d:\d\d\.\d{3} WARN  cni slow plugin ip=10\.0\.0\.1 ms=4 tags=\["a b"\] what="two words"\n$/,
    )
  })

  it('shows what an error says, and its stack from level error on', () => {
    const err = new CodedError('NotFound', 'read x: gone')
    const [warn, error] = record('pretty', (logger) => {
      logger.warn({ err }, 'first')
      logger.error({ err }, 'second')
    })
    expect(warn?.split('\n')).toEqual([expect.stringMatching(/WARN {2}first err="read x: gone" code=NotFound/), ''])
    expect(error?.split('\n')[1]).toMatch(/^ {4}at /)
  })

  it('lets no value end its line or reach the terminal as a control character', () => {
    const hostile = 'x\n12:00:00.000 ERROR forged\r\u001b[2J\u007f\u009b1m\u2028\u202e\u{e0001}'
    const [line] = record('pretty', (logger) => logger.child({ module: hostile }).info({ [hostile]: hostile }, hostile))
    expect(line).toMatch(/^[\x20-\x7e]+\n$/)
    expect(line).toContain('\\u001b[2J\\u007f\\u009b1m\\u2028\\u202e\\udb40\\udc01')
  })

  it('keeps any value on one line', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.jsonValue(), (text, value) => {
        const [line] = record('pretty', (logger) => logger.info({ text, value, err: new Error(text) }, text))
        expect(line).toMatch(/^[^\p{Cc}]+\n$/u)
      }),
    )
  })
})
