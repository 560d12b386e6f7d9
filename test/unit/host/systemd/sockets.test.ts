import { once } from 'node:events'
import { mkdtempSync, openSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import koffi from 'koffi'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openNotifySocket, listeningPathOf } from '../../../../src/host/systemd/sockets.ts'
import { NotifyReceiver } from '../../../support/notify-receiver.ts'

let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sandboxerd-systemd-'))
})
afterEach(() => rmSync(dir, { recursive: true }))

describe('openNotifySocket', () => {
  it.each([
    ['a path', () => join(dir, 'notify')],
    ['an abstract name', () => `@sandboxerd-test-${process.pid}`],
  ])('sends to %s', (_what, address) => {
    using receiver = new NotifyReceiver(address())
    using notify = openNotifySocket(receiver.address)
    expect(notify.send('STATUS=ä')).toBe(true)
    expect(notify.send('READY=1\nMAINPID=1')).toBe(true)
    expect(receiver.messages()).toEqual(['STATUS=ä', 'READY=1\nMAINPID=1'])
  })

  it('waits for nobody: a full queue is told', () => {
    using receiver = new NotifyReceiver(join(dir, 'notify'))
    using notify = openNotifySocket(receiver.address)
    let sent = 0
    while (sent < 100_000 && notify.send('STATUS=again')) sent++
    expect(sent).toBeLessThan(100_000)
    expect(receiver.messages()).toHaveLength(sent)
    expect(notify.send('STATUS=again')).toBe(true)
  })

  it('tells that nobody listens, and refuses an address that is too long', () => {
    using notify = openNotifySocket(join(dir, 'nobody'))
    expect(() => notify.send('READY=1')).toThrow(`sendto ${join(dir, 'nobody')}: ENOENT`)
    expect(() => openNotifySocket(`/${'x'.repeat(200)}`)).toThrow('too long an address')
  })
})

describe('listeningPathOf', () => {
  it('is the path at which a socket listens', async () => {
    const server = createServer().listen(join(dir, 'a.sock'))
    await once(server, 'listening')
    const { fd } = (server as unknown as { _handle: { fd: number } })._handle
    expect(listeningPathOf(fd)).toBe(join(dir, 'a.sock'))
    server.close()
  })

  it.each([
    ['a connection, as with Accept=yes', 1, 1, 'it does not listen for streams'],
    ['a datagram socket', 1, 2, 'it does not listen for streams'],
    ['a TCP socket', 2, 1, 'it is no Unix socket'],
  ])('refuses %s', (_what, family, type, why) => {
    const lib = koffi.load(null)
    const fd = Number(lib.func('int socket(int, int, int)')(family, type, 0))
    expect(() => listeningPathOf(fd)).toThrow(`look at the socket at descriptor ${fd}: ${why}`)
    lib.func('int close(int)')(fd)
  })

  it('refuses what is no socket', () => {
    const fd = openSync('/dev/null', 'r')
    expect(() => listeningPathOf(fd)).toThrow(`look at the socket at descriptor ${fd}: ENOTSOCK`)
    expect(() => listeningPathOf(9999)).toThrow('look at the socket at descriptor 9999: EBADF')
  })
})
