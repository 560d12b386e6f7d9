import { describe, expect, it } from 'vitest'
import { diffIdsOf, toRunConfig } from '../../../src/image/run-config.ts'

describe('toRunConfig', () => {
  it('reads what the image says, and takes what it does not say as empty', () => {
    const config = {
      Entrypoint: ['/e'],
      Cmd: ['c'],
      Env: ['A=b'],
      WorkingDir: '/w',
      User: 'u:g',
      StopSignal: 'quit',
      Volumes: { '/v': {}, relative: {} },
      Labels: { __proto__x: 'y' },
    }
    expect(toRunConfig({ os: 'linux', config })).toEqual({
      entrypoint: ['/e'],
      cmd: ['c'],
      env: ['A=b'],
      workingDir: '/w',
      user: 'u:g',
      stopSignal: 'SIGQUIT',
      volumes: ['/v'],
      labels: { __proto__x: 'y' },
    })
    const empty = {
      entrypoint: [],
      cmd: [],
      env: [],
      workingDir: '',
      user: '',
      stopSignal: '',
      volumes: [],
      labels: {},
    }
    expect(toRunConfig({})).toEqual(empty)
    expect(toRunConfig({ config: { Entrypoint: null, Volumes: null, Labels: null } })).toEqual(empty)
  })

  it.each([
    ['SIGRTMIN+3', 'SIGRTMIN+3'],
    ['15', 'SIGTERM'],
    ['SIGNONE', ''],
    ['toString', ''],
  ])('takes %s for the stop signal %j', (StopSignal, signal) => {
    expect(toRunConfig({ config: { StopSignal } }).stopSignal).toBe(signal)
  })

  it.each([
    null,
    [],
    'text',
    { os: 'windows' },
    { config: [] },
    { config: { Cmd: 'sh' } },
    { config: { Cmd: [1] } },
    { config: { Env: ['A=\0'] } },
    { config: { User: 7 } },
    { config: { Labels: { a: {} } } },
  ])('refuses %j', (spec) => {
    expect(() => toRunConfig(spec)).toThrow(expect.objectContaining({ code: 'FailedPrecondition' }))
  })
})

describe('diffIdsOf', () => {
  it('reads the digests of the layers', () => {
    expect(diffIdsOf({ rootfs: { type: 'layers', diff_ids: ['sha256:1'] } })).toEqual(['sha256:1'])
    expect(diffIdsOf({})).toEqual([])
    expect(() => diffIdsOf({ rootfs: { diff_ids: 'x' } })).toThrow('is not a list')
  })
})
