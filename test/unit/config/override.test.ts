import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseOverride } from '../../../src/config/override.ts'
import { parseConfig } from '../../../src/config/parse.ts'

describe('parseOverride', () => {
  it.each([
    ['log.level="debug"', ['log', 'level'], 'debug'],
    ['log.level=debug', ['log', 'level'], 'debug'],
    ['cri.mode=0o600', ['cri', 'mode'], 0o600],
    ['cri.mode=0600', ['cri', 'mode'], '0600'],
    ['debug.failpoints=true', ['debug', 'failpoints'], true],
    ['timeouts.cni=1.5', ['timeouts', 'cni'], 1.5],
    ['cni.bin_dirs=["/a", "/b"]', ['cni', 'bin_dirs'], ['/a', '/b']],
    ['runtimes."a.b".runtime=/x', ['runtimes', 'a.b', 'runtime'], '/x'],
    ['"a=b"=c=d', ['a=b'], 'c=d'],
    ['pause.image=', ['pause', 'image'], ''],
    ['log.level="debug"\nroot="/x"', ['log', 'level'], '"debug"\nroot="/x"'],
  ])('reads %j', (text, path, value) => {
    expect(parseOverride(text)).toEqual({ path, value })
  })

  it.each(['', '=', 'log.level', '=x', 'log..level=x', 'log\nlevel=x', '[log]=x', '# =x', 'a b=x'])(
    'refuses %j',
    (text) => {
      expect(() => parseOverride(text)).toThrow(/^set .*: must be key\.path=value$/)
    },
  )

  it('takes any text that is no TOML value as it stands', () => {
    fc.assert(
      fc.property(
        fc.string().map((text) => `/${text}`),
        (text) => {
          expect(parseOverride(`root=${text}`)).toEqual({ path: ['root'], value: text })
        },
      ),
    )
  })
})

describe('parseConfig with overrides', () => {
  it('puts them over the file, the last one on top', () => {
    const overrides = ['log.level=warn', 'log.level=error', 'state=/s'].map(parseOverride)
    const config = parseConfig('[log]\nlevel = "debug"\nformat = "pretty"', 'test.toml', overrides)
    expect(config.log).toEqual({ level: 'error', levels: {}, format: 'pretty' })
    expect(config.cri.socket).toBe('/s/cri.sock')
  })

  it('refuses what cannot be set', () => {
    expect(() => parseConfig('log = 1', 'test.toml', [parseOverride('log.level=info')])).toThrow(
      'log.level: cannot be set, it is not in a table',
    )
    expect(() => parseConfig('', 'test.toml', [parseOverride('no.such=1')])).toThrow('no: unknown key')
    expect(() => parseConfig('', 'test.toml', [parseOverride('__proto__.x=1')])).toThrow('__proto__: unknown key')
    expect(Object.hasOwn(Object.prototype, 'x')).toBe(false)
  })
})
