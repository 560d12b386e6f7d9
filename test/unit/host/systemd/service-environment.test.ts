import { describe, expect, it } from 'vitest'
import { takeServiceEnvironment } from '../../../../src/host/systemd/service-environment.ts'

const PID = 4711

describe('takeServiceEnvironment', () => {
  it('reads what the service manager says, and takes it out of the environment', () => {
    const env = {
      PATH: '/usr/bin',
      NOTIFY_SOCKET: '/run/systemd/notify',
      LISTEN_PID: '4711',
      LISTEN_FDS: '2',
      LISTEN_FDNAMES: 'cri:sandboxer',
      LISTEN_PIDFDID: '17',
      WATCHDOG_PID: '4711',
      WATCHDOG_USEC: '30000000',
    }
    expect(takeServiceEnvironment(env, PID)).toEqual({
      notifySocket: '/run/systemd/notify',
      watchdogMs: 30_000,
      sockets: [
        { fd: 3, name: 'cri' },
        { fd: 4, name: 'sandboxer' },
      ],
    })
    expect(env).toEqual({ PATH: '/usr/bin' })
  })

  it('is empty without a service manager', () => {
    expect(takeServiceEnvironment({}, PID)).toEqual({ notifySocket: undefined, watchdogMs: undefined, sockets: [] })
  })

  it('follows no watchdog that waits for ever', () => {
    expect(takeServiceEnvironment({ WATCHDOG_USEC: '18446744073709551615' }, PID).watchdogMs).toBeUndefined()
  })

  it('takes out what is meant for another process, and does not follow it', () => {
    const env = { LISTEN_PID: '1', LISTEN_FDS: '3', WATCHDOG_PID: '1', WATCHDOG_USEC: '5' }
    expect(takeServiceEnvironment(env, PID)).toMatchObject({ watchdogMs: undefined, sockets: [] })
    expect(env).toEqual({})
  })

  it('follows a watchdog without a pid, and sockets without names', () => {
    const env = { LISTEN_PID: '4711', LISTEN_FDS: '1', WATCHDOG_USEC: '1500000' }
    expect(takeServiceEnvironment(env, PID)).toMatchObject({
      watchdogMs: 1500,
      sockets: [{ fd: 3, name: 'unknown' }],
    })
  })

  it.each(['', 'relative', 'vsock:2:1234', '@', '/'])('has nobody to notify at %j', (address) => {
    expect(takeServiceEnvironment({ NOTIFY_SOCKET: address }, PID).notifySocket).toBeUndefined()
  })

  it.each(['', '-1', '1.5', '0', 'x', '0x10', '99999999999999999999'])('refuses the number %j', (text) => {
    expect(() => takeServiceEnvironment({ LISTEN_PID: '4711', LISTEN_FDS: text }, PID)).toThrow(
      `environment variable LISTEN_FDS: must be a number, not "${text}"`,
    )
  })
})
