import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { Attachments } from '../../../src/executor/attach/attachments.ts'
import { ContainerLogs } from '../../../src/executor/attach/logs.ts'
import type { ProcessStreams, StreamsWanted } from '../../../src/executor/types.ts'
import { socketPair } from '../../support/forwarded.ts'

const monitors: Socket[] = []
const clients: Socket[] = []

afterEach(() => {
  for (const socket of [...monitors.splice(0), ...clients.splice(0)]) socket.destroy()
})

/** A monitor that takes its time until it accepts a connection. */
function attachments(): Attachments {
  const packets = async (): Promise<Socket> => {
    await sleep(50)
    const [client, monitor] = await socketPair()
    clients.push(client)
    monitors.push(monitor)
    return client
  }
  return new Attachments({ logs: new ContainerLogs({ timeoutMs: 1000 }), relay: { packets } })
}

async function attach(to: Attachments, wanted: Partial<StreamsWanted>): Promise<ProcessStreams> {
  const runtime = { path: '/usr/bin/crun', root: '/run/crun', systemdCgroup: false }
  const record = { id: 'c', runtime, bundleDir: '/run/c', cgroupsPath: '/c', ownedCgroupParents: [] }
  const process = { pid: 1, startTime: '1', bootId: 'b' }
  const wait = (signal: AbortSignal): Promise<never> =>
    new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error))
    })
  const io = { terminal: false, stdin: true, stdinOnce: false, logPath: '' }
  const all = { stdin: false, stdout: false, stderr: false, ...wanted }
  return to.attach({ record, monitorPid: 1, wait }, { process, io, wanted: all }, new AbortController().signal)
}

/** What conmon sends of the standard output, as the relay frames it. */
function packet(text: string): Buffer {
  return Buffer.concat([Buffer.from([2, 0, 0, 0, text.length]), Buffer.from(text)])
}

describe('a client that comes while the last one leaves', () => {
  it.each([
    ['is not cut off when that was still connecting', 0],
    ['is not cut off when that was connected', 150],
  ])('%s', async (_, connectedMs) => {
    const container = attachments()
    const first = await attach(container, { stdin: true })
    first.stdin?.write('typed')
    await sleep(connectedMs)
    await first[Symbol.asyncDispose]()
    const second = await attach(container, { stdin: true, stdout: true })
    await expect.poll(() => clients.some(({ destroyed }) => destroyed)).toBe(true)
    const monitor = monitors[clients.findIndex(({ destroyed }) => !destroyed)]
    monitor?.write(packet('printed'))
    expect(String((await once(second.stdout ?? expect.fail(), 'data'))[0])).toBe('printed')
    second.stdin?.write('heard')
    expect(String((await once(monitor ?? expect.fail(), 'data'))[0])).toBe('heard')
    await second[Symbol.asyncDispose]()
  })
})
