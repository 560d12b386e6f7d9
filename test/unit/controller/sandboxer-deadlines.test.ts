import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { GrpcSandboxerClient, type RemoteCall, type SandboxerClient } from '../../../src/client/sandboxer-client.ts'
import { loadSandboxApi } from '../../../src/grpc/load.ts'
import { FakeSandboxer } from '../../support/fake-sandboxer.ts'

const ID = 'e'.repeat(64)
const { Controller } = loadSandboxApi().containerd.services.sandbox.v1

/** Every call that there is. */
const CALLS: Record<keyof SandboxerClient, (client: SandboxerClient, call: RemoteCall) => Promise<unknown>> = {
  create: (client, call) => client.create({ sandbox_id: ID }, call),
  start: (client, call) => client.start(ID, call),
  platform: (client, call) => client.platform(ID, call),
  stop: (client, call) => client.stop(ID, 1000, call),
  wait: (client, call) => client.wait(ID, call),
  status: (client, call) => client.status(ID, false, call),
  shutdown: (client, call) => client.shutdown(ID, call),
  metrics: (client, call) => client.metrics(ID, call),
  update: (client, call) => client.update({ sandbox_id: ID, runtime: { name: 'r' } }, [], call),
}

let directory: string
let client: GrpcSandboxerClient
let close: () => void

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sbx-mute-'))
  const path = join(directory, 's.sock')
  const sockets = new Set<Socket>()
  // It takes what comes, and never says a word.
  const server = createServer((socket) => sockets.add(socket.resume()))
  await new Promise<void>((resolve) => {
    server.listen(path, resolve)
  })
  close = () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  }
  client = new GrpcSandboxerClient({ name: 'mute', address: `unix://${path}` }, { Controller })
})
afterEach(async () => {
  client[Symbol.dispose]()
  close()
  await rm(directory, { recursive: true })
})

describe('a sandboxer that gives up by itself', () => {
  it('is told from one that does not answer', async () => {
    const path = join(directory, 'tired.sock')
    await using peer = await FakeSandboxer.start(path)
    using other = new GrpcSandboxerClient({ name: 'tired', address: `unix://${path}` }, { Controller })
    const { signal } = new AbortController()
    peer.failNext('Status', status.DEADLINE_EXCEEDED)
    peer.failNext('Wait', status.DEADLINE_EXCEEDED)
    const message = expect.stringContaining('fake DEADLINE_EXCEEDED') as unknown
    const failure = { code: 'DeadlineExceeded', message }
    await expect(other.status(ID, false, { timeoutMs: 60_000, signal })).rejects.toMatchObject(failure)
    await expect(other.wait(ID, { timeoutMs: 0, signal })).rejects.toMatchObject(failure)
  })
})

describe('a sandboxer that accepts and never answers', () => {
  it('is asked in no other way than by the calls that are tried here', () => {
    const methods = Object.getOwnPropertyNames(GrpcSandboxerClient.prototype).filter((name) => name !== 'constructor')
    expect(methods.toSorted()).toEqual(Object.keys(CALLS).toSorted())
  })

  it.each(Object.entries(CALLS))('lets %s end at its deadline, and as soon as its caller gives up', async (_, send) => {
    const patient = new AbortController()
    await expect(send(client, { timeoutMs: 50, signal: patient.signal })).rejects.toMatchObject({
      code: 'DeadlineExceeded',
      message: expect.stringMatching(/^sandboxer mute: .* sandbox e{64}: no answer after 50 ms$/) as unknown,
    })
    const call = send(client, { timeoutMs: 60_000, signal: patient.signal })
    patient.abort(new Error('enough'))
    await expect(call).rejects.toThrow('enough')
  })
})
