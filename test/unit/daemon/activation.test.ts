import { describe, expect, it } from 'vitest'
import { activatedSockets } from '../../../src/daemon/service/activation.ts'

const wanted = { '[cri] socket': '/run/s/cri.sock', '[sandboxer] socket': '/run/s/sandboxer.sock' }

describe('activatedSockets', () => {
  it('finds sockets by their paths, whatever their names', () => {
    const paths = new Map([
      [3, '/run/s/sandboxer.sock'],
      [4, '/run/s/cri.sock'],
    ])
    const passed = [...paths.keys()].map((fd) => ({ fd, name: 'sandboxerd.socket' }))
    expect(activatedSockets(passed, wanted, (fd) => paths.get(fd) ?? '')).toEqual(
      new Map([
        ['/run/s/sandboxer.sock', 3],
        ['/run/s/cri.sock', 4],
      ]),
    )
    expect(activatedSockets([], wanted)).toEqual(new Map())
  })

  it('refuses a socket that is not ours, naming those that are', () => {
    expect(() => activatedSockets([{ fd: 3, name: 'x.socket' }], wanted, () => '/run/other.sock')).toThrow(
      'use the socket /run/other.sock of the service manager (x.socket): the configuration has ' +
        '[cri] socket = /run/s/cri.sock, [sandboxer] socket = /run/s/sandboxer.sock; ' +
        'ListenStream= of the socket unit must be one of these',
    )
  })

  it('refuses one that comes twice, and a descriptor that is none', () => {
    const twice = [3, 4].map((fd) => ({ fd, name: 'x' }))
    expect(() => activatedSockets(twice, wanted, () => '/run/s/cri.sock')).toThrow('it was given twice')
    expect(() => activatedSockets([{ fd: 9999, name: 'x' }], wanted)).toThrow('descriptor 9999: EBADF')
  })
})
