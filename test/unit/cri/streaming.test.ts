import { status } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import { ask, type CriServer, startCri } from './cri-server.ts'

let server: CriServer

beforeEach(async () => {
  server = await startCri()
})
afterEach(async () => await server[Symbol.asyncDispose]())

const refused = (code: number, text: string): object => ({
  code,
  details: expect.stringContaining(text) as string,
})

const STREAMS = { stdin: true, stdout: true, stderr: true, tty: false }

function running(config: { readonly tty?: boolean } = {}): string {
  return server.containers.add({ status: { state: 'RUNNING' }, config }).metadata.id
}

describe('Exec', () => {
  it('answers the URL of a session that runs the command', async () => {
    const id = running()
    const cmd = ['sh', '-c', 'a\nb', '']
    const answer = await ask(server.client, 'Exec', { container_id: id.slice(0, 63), cmd, ...STREAMS })
    expect(answer).toEqual({ url: 'http://127.0.0.1:1/exec/1' })
    const request = { command: cmd, stdin: true, stdout: true, stderr: true, terminal: false }
    expect(server.streamUrls.asked).toEqual([['exec', id, request]])
    expect(server.containers.calls).toEqual([])
  })

  it.each([
    ['container_id: ', { container_id: '' }],
    ['cmd: must name a program', { cmd: [] }],
    ['cmd: must name a program', { cmd: ['', 'a'] }],
    ['cmd[1]: contains a NUL', { cmd: ['a', 'b\0c'] }],
    ['cmd[0]: longer than 131071 bytes', { cmd: ['é'.repeat(65_536)] }],
    ['cmd: longer than 2097152 bytes', { cmd: Array.from({ length: 17 }, () => 'x'.repeat(131_071)) }],
    ['tty and stderr cannot both be true', { tty: true }],
    ['one of stdin, stdout and stderr must be true', { stdin: false, stdout: false, stderr: false }],
  ])('refuses: %s', async (text, changes) => {
    const request = { container_id: running(), cmd: ['sh'], ...STREAMS, ...changes }
    await expect(ask(server.client, 'Exec', request)).rejects.toMatchObject(refused(status.INVALID_ARGUMENT, text))
    expect(server.streamUrls.asked).toEqual([])
  })

  it('takes as much as Linux takes', async () => {
    const cmd = Array.from({ length: 16 }, () => 'x'.repeat(131_071))
    await ask(server.client, 'Exec', { container_id: running(), cmd, ...STREAMS })
  })

  it('passes on that there are too many URLs', async () => {
    server.streamUrls.execUrl = () => {
      throw new CodedError('ResourceExhausted', 'make a streaming URL: 1000 of them wait for their clients')
    }
    const attempt = ask(server.client, 'Exec', { container_id: running(), cmd: ['sh'], ...STREAMS })
    await expect(attempt).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED })
  })
})

describe('Attach', () => {
  it.each([
    ['without terminal', false, STREAMS, { stderr: true, terminal: false }],
    ['with a terminal', true, { ...STREAMS, stderr: false, tty: true }, { stderr: false, terminal: true }],
    ['with a terminal, whose client has none', true, STREAMS, { stderr: false, terminal: false }],
    ['without terminal, whose client has one', false, { ...STREAMS, stderr: false, tty: true }, { terminal: false }],
  ])('answers the URL for a container %s', async (_, tty, request, expected) => {
    const id = running({ tty })
    expect(await ask(server.client, 'Attach', { container_id: id, ...request })).toEqual({
      url: 'http://127.0.0.1:1/attach/1',
    })
    expect(server.streamUrls.asked).toEqual([['attach', id, expect.objectContaining(expected)]])
  })

  it.each([
    ['container_id: ', { container_id: '' }],
    ['tty and stderr cannot both be true', { tty: true }],
    ['one of stdin, stdout and stderr must be true', { stdin: false, stdout: false, stderr: false }],
  ])('refuses: %s', async (text, changes) => {
    const attempt = ask(server.client, 'Attach', { container_id: running(), ...STREAMS, ...changes })
    await expect(attempt).rejects.toMatchObject(refused(status.INVALID_ARGUMENT, text))
  })
})

describe.each(['Exec', 'Attach'] as const)('%s', (method) => {
  it.each(['CREATED', 'EXITED', 'UNKNOWN'] as const)('refuses a container that is %s', async (state) => {
    const container_id = server.containers.add({ status: { state } }).metadata.id
    const attempt = ask(server.client, method, { container_id, cmd: ['sh'], ...STREAMS })
    await expect(attempt).rejects.toMatchObject(refused(status.FAILED_PRECONDITION, `it is CONTAINER_${state}`))
  })

  it('refuses a container that is not to be trusted, and one that nobody knows', async () => {
    const container_id = server.containers.add({ status: { state: 'RUNNING' }, quarantined: 'row: no seal' }).metadata
      .id
    const doubtful = ask(server.client, method, { container_id, cmd: ['sh'], ...STREAMS })
    await expect(doubtful).rejects.toMatchObject({ code: status.FAILED_PRECONDITION })
    const unknown = ask(server.client, method, { container_id: 'x', cmd: ['sh'], ...STREAMS })
    await expect(unknown).rejects.toMatchObject({ code: status.NOT_FOUND })
  })
})

describe('PortForward', () => {
  it('answers the URL, also when the client will say later which ports', async () => {
    const { id } = server.sandboxes.add().metadata
    for (const port of [[], [1, 65_535, 80, 80]]) {
      const answer = await ask(server.client, 'PortForward', { pod_sandbox_id: id.slice(0, 63), port })
      expect(answer.url).toMatch(/\/portforward\//)
      expect(server.streamUrls.asked.at(-1)).toEqual(['portforward', id, port])
    }
  })

  it.each([
    ['pod_sandbox_id: ', { pod_sandbox_id: '' }],
    ['port[0]: 0 is not between', { port: [0] }],
    ['port[1]: -1 is not between', { port: [1, -1] }],
    ['port[0]: 65536 is not between', { port: [65_536] }],
    ['port: more than 1024 ports', { port: Array.from({ length: 1025 }, () => 80) }],
  ])('refuses: %s', async (text, changes) => {
    const request = { pod_sandbox_id: server.sandboxes.add().metadata.id, port: [80], ...changes }
    const attempt = ask(server.client, 'PortForward', request)
    await expect(attempt).rejects.toMatchObject(refused(status.INVALID_ARGUMENT, text))
    expect(server.streamUrls.asked).toEqual([])
  })

  it('refuses a pod that is not ready, and one that nobody knows', async () => {
    const pod_sandbox_id = server.sandboxes.add({ state: 'STOPPED' }).metadata.id
    const stopped = ask(server.client, 'PortForward', { pod_sandbox_id, port: [80] })
    await expect(stopped).rejects.toMatchObject(refused(status.FAILED_PRECONDITION, 'it is not ready'))
    const unknown = ask(server.client, 'PortForward', { pod_sandbox_id: 'ffff', port: [80] })
    await expect(unknown).rejects.toMatchObject({ code: status.NOT_FOUND })
  })
})
