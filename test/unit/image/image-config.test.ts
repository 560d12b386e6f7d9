import { describe, expect, it } from 'vitest'
import { imageProgram } from '../../../src/image/image-config.ts'

const config = { Entrypoint: ['/pause'], Cmd: ['-P'], StopSignal: 'SIGINT' }

describe('imageProgram', () => {
  it('runs the entry point with its arguments, and ends it as the image says', () => {
    expect(imageProgram({ os: 'linux', architecture: 'amd64', config }, 'x64')).toEqual({
      args: ['/pause', '-P'],
      stopSignal: 'SIGINT',
    })
    expect(imageProgram({ config: { Cmd: ['/pause'] } })).toEqual({ args: ['/pause'], stopSignal: 'SIGTERM' })
    expect(imageProgram({ config: { Entrypoint: ['/p'], Cmd: null, StopSignal: '' } }).args).toEqual(['/p'])
  })

  it.each([
    ['SIGQUIT', 'SIGQUIT'],
    ['quit', 'SIGQUIT'],
    ['3', 'SIGQUIT'],
    [undefined, 'SIGTERM'],
  ])('takes %s for the signal %s', (StopSignal, signal) => {
    expect(imageProgram({ config: { ...config, StopSignal } }).stopSignal).toBe(signal)
  })

  it.each([
    [null, 'names no command'],
    [{}, 'names no command'],
    [{ config: { Entrypoint: [], Cmd: [] } }, 'names no command'],
    [{ config: { Entrypoint: [''] } }, 'names no command'],
    [{ config: { Entrypoint: '/pause' } }, 'Entrypoint is not a list'],
    [{ config: { Entrypoint: ['/pause'], Cmd: [1] } }, 'Cmd is not a list'],
    [{ config: { Entrypoint: ['/a\0b'] } }, 'Entrypoint is not a list'],
    [{ config: { ...config, StopSignal: 'SIGNOPE' } }, 'StopSignal "SIGNOPE" is not a signal'],
    [{ os: 'windows', config }, 'it is made for "windows"'],
    [{ architecture: 'arm64', config }, 'this node is amd64'],
  ])('refuses %j: %s', (image, why) => {
    expect(() => imageProgram(image, 'x64')).toThrow(why)
    expect(() => imageProgram(image, 'x64')).toThrow(/^its configuration cannot be run: /)
  })
})
