import { describe, expect, it } from 'vitest'
import { PluginReadiness } from '../../../src/cni/readiness.ts'

function readiness() {
  const clock = { ms: 0 }
  return { clock, plugins: new PluginReadiness({ graceMs: 60_000 }, { nowMs: () => clock.ms }) }
}

describe('PluginReadiness', () => {
  it('is not ready before the first answer, nor when that is a failure', () => {
    const { plugins } = readiness()
    expect(plugins.status).toMatchObject({ ready: false, reason: 'NetworkPluginNotReady' })
    plugins.failed('no daemon')
    expect(plugins.status).toMatchObject({ ready: false, message: 'no daemon' })
  })

  it('hides an outage of 15 s and shows one of 61 s with its latest reason', () => {
    const { clock, plugins } = readiness()
    plugins.succeeded()
    plugins.failed('restarting')
    clock.ms = 15_000
    expect(plugins.status.ready).toBe(true)
    plugins.succeeded()
    clock.ms = 20_000
    plugins.failed('gone')
    clock.ms = 79_000
    plugins.failed('still gone')
    expect(plugins.status.ready).toBe(true)
    clock.ms = 81_000
    expect(plugins.status).toEqual({ ready: false, reason: 'NetworkPluginNotReady', message: 'still gone' })
    plugins.succeeded()
    expect(plugins.status).toEqual({ ready: true, reason: '', message: '' })
  })

  it('gives no grace after the network was gone', () => {
    const { plugins } = readiness()
    plugins.succeeded()
    plugins.reset()
    plugins.failed('no daemon')
    expect(plugins.status.ready).toBe(false)
  })
})
