import { describe, expect, it } from 'vitest'
import { Signal } from '../../../src/generated/runtime/v1/Signal.ts'
import { signalNumber, stopSignalOf } from '../../../src/oci/stop-signal.ts'
import { containerConfig } from './container-fixtures.ts'
import { coded } from './fixtures.ts'

const ofImage = (text: string) => stopSignalOf(containerConfig(), text)

describe('stopSignalOf', () => {
  it.each([
    ['', 'SIGTERM', 15],
    ['SIGQUIT', 'SIGQUIT', 3],
    ['quit', 'SIGQUIT', 3],
    ['9', 'SIGKILL', 9],
    ['SIGRTMIN+3', 'SIGRTMIN+3', 37],
    ['rtmin+3', 'SIGRTMIN+3', 37],
    ['37', 'SIGRTMIN+3', 37],
    ['SIGRTMIN+30', 'SIGRTMAX', 64],
    ['SIGRTMAX-30', 'SIGRTMIN', 34],
  ])('reads %j of an image as %s', (text, name, number) => {
    expect(ofImage(text)).toBe(name)
    expect(signalNumber(name)).toBe(number)
  })

  it.each(['SIGFOO', '0', '65', '32', '-9', 'SIGRTMIN+31', 'SIGRTMAX+1', 'constructor'])('refuses %j', (text) => {
    expect(() => ofImage(text)).toThrow(coded('InvalidArgument', 'stop signal of the image'))
  })

  it('prefers that of the request, and gives each signal of the CRI a name that leads back to it', () => {
    for (const signal of Object.values(Signal)) {
      const name = stopSignalOf(containerConfig({ stop_signal: signal }), 'SIGHUP')
      if (signal === 'SIGNAL_RUNTIME_DEFAULT') expect(name).toBe('SIGHUP')
      else {
        expect(`SIGNAL_${name.replace('+', 'PLUS').replace('-', 'MINUS')}`).toBe(signal)
        expect(signalNumber(name)).toBeGreaterThan(0)
      }
    }
  })
})
