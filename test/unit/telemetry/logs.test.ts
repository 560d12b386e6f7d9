import { describe, expect, it } from 'vitest'
import { LOG_ROOMS } from '../../../src/core/log-rooms.ts'
import { Logs } from '../../../src/telemetry/logs.ts'

function makeLogs(levels: Record<string, 'debug' | 'error'> = {}) {
  const lines: Record<string, unknown>[] = []
  const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>)
  return { logs: new Logs({ level: 'info', levels, format: 'json' }, { write }), lines }
}

describe('Logs', () => {
  it('gives every room a logger of its name, at the level of all or its own', () => {
    const { logs, lines } = makeLogs({ cni: 'debug', grpc: 'error' })
    for (const room of LOG_ROOMS) {
      logs.of(room).debug('quiet')
      logs.of(room).info('usual')
    }
    const heard = lines.map(({ module, msg }) => `${String(module)} ${String(msg)}`)
    const usual = LOG_ROOMS.filter((room) => room !== 'grpc').map((room) => `${room} usual`)
    expect(heard.toSorted()).toEqual(['cni quiet', ...usual].toSorted())
  })

  it('changes the level of a room for loggers and their children that are there, and for later ones', () => {
    const { logs, lines } = makeLogs()
    const child = logs.of('sandbox').child({ sandboxId: 'a1' })
    const grandchild = child.child({ kind: 'exec' })
    child.debug('before')
    logs.setLevels({ sandbox: 'debug' })
    child.debug('child')
    grandchild.debug('grandchild')
    logs.of('sandbox').child({ sandboxId: 'b2' }).debug('later')
    logs.of('container').debug('other room')
    logs.setLevels({ sandbox: 'error' })
    for (const logger of [child, grandchild, logs.of('sandbox')]) logger.warn('after')
    expect(lines.map(({ msg }) => msg)).toEqual(['child', 'grandchild', 'later'])
  })

  it('changes the level of all but for rooms that have their own, which an empty level takes back', () => {
    const { logs } = makeLogs({ cni: 'debug' })
    logs.setLevels({ '': 'warn' })
    expect([logs.of('cni').level, logs.of('image').level]).toEqual(['debug', 'warn'])
    expect(logs.levels()).toMatchObject({ '': 'warn', cni: 'debug', image: '' })
    logs.setLevels({ cni: '' })
    expect([logs.of('cni').level, logs.levels()['cni']]).toEqual(['warn', ''])
  })

  it('takes back what levels() has said', () => {
    const { logs } = makeLogs({ cni: 'debug' })
    const levels = logs.levels()
    logs.setLevels({ '': 'trace', cni: '', grpc: 'error' })
    logs.setLevels(levels)
    expect(logs.levels()).toEqual(levels)
  })

  it('goes back to a configuration', () => {
    const { logs } = makeLogs()
    logs.setLevels({ '': 'trace', grpc: 'error' })
    logs.configure({ level: 'warn', levels: { cni: 'debug' } })
    expect([logs.of('grpc').level, logs.of('cni').level]).toEqual(['warn', 'debug'])
  })

  it.each([
    [{ cni: 'debug', cnii: 'debug' }, /set the log level of "cnii": there is no such room; rooms are admin, cni, /],
    [{ cni: 'debug', grpc: 'loud' }, /set the log level of grpc to "loud": must be trace, debug, info, warn, error/],
    [{ cni: 'debug', '': '' }, /set the log level to "": must be/],
    [{ cni: 'debug', constructor: 'info' }, /"constructor": there is no such room/],
  ])('refuses %j whole', (levels, why) => {
    const { logs } = makeLogs()
    expect(() => logs.setLevels(levels)).toThrow(why)
    expect(logs.levels()['cni']).toBe('')
  })
})
