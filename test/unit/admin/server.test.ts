import { mkdtemp, rm, stat } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Routes } from '../../../src/admin/route.ts'
import { AdminServer } from '../../../src/admin/server.ts'
import { aborted, abortReason } from '../../../src/core/deadline.ts'
import { CodedError } from '../../../src/core/errors.ts'

let directory: string
let socket: string
const servers: AdminServer[] = []

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'admin-'))
  socket = join(directory, 'admin.sock')
})
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close(0)
  await rm(directory, { recursive: true })
})

async function serve(routes: Routes): Promise<AdminServer> {
  const server = new AdminServer(
    { socket, mode: 0o600, group: '', stalledMs: 50 },
    { routes, logger: pino({ level: 'silent' }) },
  )
  await server.listen()
  servers.push(server)
  return server
}

interface Reply {
  readonly status: number
  readonly text: string
}

async function ask(path: string, options: { readonly method?: string; readonly body?: string } = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath: socket, path, method: options.method ?? 'GET', agent: false }, (response) => {
      let text = ''
      response.on('data', (data: Buffer) => (text += data.toString()))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
      response.on('error', reject)
    })
    call.on('error', reject)
    call.end(options.body)
  })
}

async function* forEver(signal: AbortSignal): AsyncGenerator<unknown> {
  yield { n: 1 }
  await aborted(signal)
  throw abortReason(signal)
}

describe('AdminServer', () => {
  it('lets nobody but its owner connect', async () => {
    await serve({})
    expect((await stat(socket)).mode & 0o777).toBe(0o600)
  })

  it('answers JSON, with big numbers as text', async () => {
    await serve({ 'GET /v1/x': { answer: async () => ({ json: { ns: 2n ** 64n } }) } })
    expect(await ask('/v1/x?a=b')).toEqual({ status: 200, text: '{"ns":"18446744073709551616"}\n' })
  })

  it('gives the rest of a path to its route, decoded', async () => {
    await serve({ 'GET /v1/inspect/*': { answer: async ({ parameter }) => ({ json: parameter }) } })
    expect((await ask('/v1/inspect/default%2Fweb')).text).toBe('"default/web"\n')
    expect((await ask('/v1/inspect/%zz')).status).toBe(400)
    expect((await ask('/v1/inspect/')).status).toBe(404)
  })

  it.each([
    ['NotFound', 404, 'NOT_FOUND'],
    ['Unimplemented', 501, 'UNIMPLEMENTED'],
    ['ResourceExhausted', 429, 'RESOURCE_EXHAUSTED'],
  ] as const)('tells %s as %i', async (code, status, name) => {
    const answer = async () => Promise.reject(new CodedError(code, 'read https://me:secret@host/x:\nno'))
    await serve({ 'GET /x': { answer } })
    const { status: got, text } = await ask('/x')
    expect(got).toBe(status)
    expect(JSON.parse(text)).toEqual({ code: name, message: 'read https://host/x:; no' })
  })

  it('does not know what it has no route for, not even by the name of a member of all objects', async () => {
    await serve({})
    expect(await ask('/v1/nothing')).toMatchObject({
      status: 404,
      text: expect.stringContaining('NOT_FOUND') as string,
    })
    for (const path of ['/constructor', '//', '//[', '/?', '/%']) expect((await ask(path)).status, path).toBe(404)
  })

  it('reads the JSON of a request, and refuses what is none or too long', async () => {
    await serve({ 'PUT /x': { answer: async ({ body }) => ({ json: body }) } })
    expect((await ask('/x', { method: 'PUT', body: '{"a":1}' })).text).toBe('{"a":1}\n')
    expect((await ask('/x', { method: 'PUT', body: '{' })).status).toBe(400)
    expect(await ask('/x', { method: 'PUT', body: `"${'x'.repeat(1024 * 1024)}"` })).toMatchObject({ status: 400 })
  })

  it('gives an answer only so much time', async () => {
    const answer = async () => new Promise<never>(() => {})
    await serve({ 'GET /x': { timeoutMs: 20, answer } })
    expect((await ask('/x')).status).toBe(504)
  })

  it('sends one object a line as they come, and the error last', async () => {
    const lines = async function* () {
      yield { n: 1 }
      await sleep(5)
      throw new CodedError('DataLoss', 'lost')
    }
    await serve({ 'GET /x': { isStream: true, answer: async () => ({ lines: lines() }) } })
    const { status, text } = await ask('/x')
    expect(status).toBe(200)
    expect(text).toBe('{"n":1}\n{"error":{"code":"DATA_LOSS","message":"lost"}}\n')
  })

  it('refuses a stream with a status where that fails at once', async () => {
    const lines = async function* (image: string): AsyncGenerator<unknown> {
      await Promise.resolve()
      if (image === '') throw new CodedError('InvalidArgument', 'image: must be given')
      yield image
    }
    await serve({ 'GET /x': { isStream: true, answer: async () => ({ lines: lines('') }) } })
    expect((await ask('/x')).status).toBe(400)
  })

  it('tells a stream when its client has gone', async () => {
    let left: AbortSignal | undefined
    const answer = async ({ signal }: { readonly signal: AbortSignal }) => {
      left = signal
      return { lines: forEver(signal) }
    }
    await serve({ 'GET /x': { isStream: true, answer } })
    const call = request({ socketPath: socket, path: '/x', agent: false }, (response) => {
      response.once('data', () => call.destroy())
      response.on('error', () => undefined)
    })
    call.on('error', () => undefined)
    call.end()
    await vi.waitFor(() => expect(left?.aborted).toBe(true))
  })

  it('cuts off who does not read what it has asked for', async () => {
    let left: AbortSignal | undefined
    const lines = async function* () {
      for (;;) yield 'x'.repeat(64 * 1024)
    }
    const answer = async ({ signal }: { readonly signal: AbortSignal }) => {
      left = signal
      return { lines: lines() }
    }
    await serve({ 'GET /x': { isStream: true, answer } })
    const call = request({ socketPath: socket, path: '/x', agent: false }, (response) => {
      response.pause()
      response.on('error', () => undefined)
    })
    call.on('error', () => undefined)
    call.end()
    await vi.waitFor(() => expect(left?.aborted).toBe(true))
    call.destroy()
  })

  it('ends streams when it closes, answers what is under way, and is gone then', async () => {
    let answerNow = (): void => {}
    const answer = async () => {
      await new Promise<void>((resolve) => {
        answerNow = resolve
      })
      return { json: 'late' }
    }
    const stream = { isStream: true, answer: async () => ({ lines: forEver(new AbortController().signal) }) }
    const server = await serve({ 'GET /x': { answer }, 'GET /stream': stream })
    const [late, ended] = [ask('/x'), ask('/stream')]
    await sleep(50)
    const closed = server.close(5000)
    expect(await ended).toMatchObject({ text: expect.stringContaining('"UNAVAILABLE"') as string })
    answerNow()
    expect((await late).text).toBe('"late"\n')
    await closed
    await expect(ask('/x')).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('cuts off what takes longer than the drain', async () => {
    const server = await serve({ 'GET /x': { answer: async () => new Promise(() => {}) } })
    const cut = ask('/x').catch((error: unknown) => error)
    await sleep(50)
    await server.close(50)
    expect(await cut).toMatchObject({ code: 'ECONNRESET' })
  })

  it('takes the place of a socket that nobody serves, and of no other', async () => {
    await serve({})
    const second = new AdminServer(
      { socket, mode: 0o600, group: '' },
      { routes: {}, logger: pino({ level: 'silent' }) },
    )
    await expect(second.listen()).rejects.toThrow('another daemon serves it')
  })
})
