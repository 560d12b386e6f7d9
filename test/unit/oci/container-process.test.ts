import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  containerArgs,
  containerCwd,
  containerEnv,
  containerOomScoreAdj,
  containerProcess,
} from '../../../src/oci/container-process.ts'
import { containerConfig, containerInput } from './container-fixtures.ts'
import { coded, resources } from './fixtures.ts'

const image = (change: Partial<ReturnType<typeof containerInput>['image']> = {}) => ({
  ...containerInput().image,
  ...change,
})
const bytes = (text: string) => Buffer.from(text)

describe('containerArgs', () => {
  const ofImage = image({ entrypoint: ['/entry'], cmd: ['-c'] })
  it.each([
    [[], [], ['/entry', '-c']],
    [[], ['a'], ['/entry', 'a']],
    [['/cmd'], [], ['/cmd']],
    [['/cmd'], ['a'], ['/cmd', 'a']],
  ])('command %j with args %j runs %j', (command, args, expected) => {
    expect(containerArgs(containerConfig({ command, args }), ofImage)).toEqual(expected)
  })

  it('takes an empty entry point of the image for none', () => {
    const config = containerConfig({ command: [] })
    expect(containerArgs(config, image({ entrypoint: [''], cmd: ['/bin/sh'] }))).toEqual(['/bin/sh'])
  })

  it('refuses to run nothing, and what no program could be given', () => {
    const refused = (command: string[]) => () => containerArgs(containerConfig({ command }), image())
    expect(refused([])).toThrow(coded('InvalidArgument', 'registry/nginx:1'))
    expect(refused([''])).toThrow(coded('InvalidArgument', 'config.command'))
    expect(refused(['sh', 'a\0b'])).toThrow(coded('InvalidArgument', 'NUL'))
    expect(refused(['sh', 'x'.repeat(128 * 1024)])).toThrow(coded('InvalidArgument', 'longer'))
  })
})

describe('containerEnv', () => {
  const envOf = (envs: [string, string][], env: string[] = [], tty = false): string[] => {
    const config = containerConfig({ tty, envs: envs.map(([key, value]) => ({ key, value: bytes(value) })) })
    return containerEnv(containerInput({ config, image: image({ env }) }))
  }

  it('lets the container override the image, and the image what every container has', () => {
    expect(
      envOf(
        [
          ['B', '2'],
          ['PATH', '/p'],
        ],
        ['A=1', 'B=1', 'HOSTNAME=h'],
      ),
    ).toEqual(['PATH=/p', 'HOSTNAME=h', 'A=1', 'B=2'])
    expect(envOf([], [], true)).toContain('TERM=xterm')
    expect(envOf([['TERM', 'vt100']], [], true)).toContain('TERM=vt100')
  })

  it('has each name once, with the last value that was given', () => {
    const name = fc.stringMatching(/^[A-Z_][A-Z0-9_]{0,3}$/)
    const value = fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0'))
    const pairs = fc.array(fc.tuple(name, value))
    fc.assert(
      fc.property(pairs, pairs, (given, ofImage) => {
        const env = envOf(
          given,
          ofImage.map(([key, text]) => `${key}=${text}`),
        )
        const expected = new Map([...ofImage, ...given])
        const found = env.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)] as const)
        expect(new Set(found.map(([key]) => key)).size).toBe(env.length)
        for (const [key, text] of expected) expect(new Map(found).get(key)).toBe(text)
        expect(env.length).toBeLessThanOrEqual(expected.size + 2)
      }),
    )
  })

  it('keeps line ends and equals signs in values', () => {
    expect(envOf([['A', 'x=\ny']])).toContain('A=x=\ny')
  })

  it('refuses names that are none, NUL, and bytes that are no text', () => {
    expect(() => envOf([['', 'x']])).toThrow(coded('InvalidArgument', 'config.envs[0].key'))
    expect(() => envOf([['A=B', 'x']])).toThrow(coded('InvalidArgument', 'config.envs[0].key'))
    expect(() => envOf([['A', 'x\0y']])).toThrow(coded('InvalidArgument', 'NUL'))
    expect(() => envOf([], ['A=x\0y'])).toThrow(coded('InvalidArgument', 'env of image'))
    const config = containerConfig({ envs: [{ key: 'A', value: Buffer.from([0xff]) }] })
    expect(() => containerEnv(containerInput({ config }))).toThrow(coded('InvalidArgument', 'UTF-8'))
  })

  it('leaves out what an image says without a name or a value', () => {
    expect(envOf([], ['=x', 'NAME', 'A='])).toEqual([expect.stringMatching(/^PATH=/), 'HOSTNAME=web', 'A='])
  })
})

describe('containerCwd', () => {
  const cwd = (working_dir: string, workingDir = '') =>
    containerCwd(containerConfig({ working_dir }), image({ workingDir }))

  it('is the container’s, the image’s or /', () => {
    expect([cwd('/a', '/b'), cwd('', '/b'), cwd('')]).toEqual(['/a', '/b', '/'])
  })

  it('is never relative, nor a descriptor of the runtime', () => {
    for (const path of ['a', './a', 'proc/self/fd/7'])
      expect(() => cwd(path)).toThrow(coded('InvalidArgument', 'absolute'))
    for (const path of ['/proc/self/fd/7', '/proc/self/fd', '//proc/./1/fd/8', '/x/../proc/1/task/2/fd/3']) {
      expect(() => cwd(path)).toThrow(coded('InvalidArgument', 'config.working_dir'))
      expect(() => cwd('', path)).toThrow(coded('InvalidArgument', 'of image'))
    }
    expect(cwd('/proc/self/fdinfo-not')).toBe('/proc/self/fdinfo-not')
    expect(cwd('/home/fd')).toBe('/home/fd')
  })
})

describe('containerProcess', () => {
  it('always has the primary group among the additional ones', () => {
    const user = { uid: 1000, gid: 2000, additionalGids: [3000] }
    expect(containerProcess(containerInput({ user })).user.additionalGids).toEqual([2000, 3000])
  })

  it('has a terminal when asked to', () => {
    expect(containerProcess(containerInput({ config: containerConfig({ tty: true }) })).terminal).toBe(true)
  })
})

describe('containerOomScoreAdj', () => {
  const score = (oom_score_adj: string, hasSysResource = true) =>
    containerOomScoreAdj(
      containerConfig({ linux: { resources: resources({ oom_score_adj }), security_context: null } }),
      { oomScoreAdj: -10, hasSysResource },
    )

  it('is what was asked for, or the daemon’s own where it must not go lower', () => {
    expect([score('-997'), score('900'), score('-997', false)]).toEqual([-997, 900, -10])
    expect(containerOomScoreAdj(containerConfig(), { oomScoreAdj: 0, hasSysResource: false })).toBe(0)
  })

  it('refuses what the kernel does', () => {
    for (const value of ['1001', '-1001', 'x'])
      expect(() => score(value)).toThrow(coded('InvalidArgument', 'oom_score_adj'))
  })
})
