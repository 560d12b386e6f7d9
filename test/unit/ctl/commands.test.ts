import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createServer as createPlainServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { DaemonStatus, Happening, LedgerLine, PodSummary } from '../../../src/admin/api.ts'
import type { Routes } from '../../../src/admin/route.ts'
import { AdminServer } from '../../../src/admin/server.ts'
import { aborted } from '../../../src/core/deadline.ts'
import { CodedError } from '../../../src/core/errors.ts'
import { notReached } from '../../../src/ctl/admin-client.ts'
import { COMMANDS } from '../../../src/ctl/commands.ts'
import { Interrupted, runCtl } from '../../../src/ctl/main.ts'

const ID = 'ab'.repeat(32)
const STATUS: DaemonStatus = {
  version: '1.2.3',
  pid: 7,
  startedAt: '2026-01-01T00:00:00.000Z',
  config: null,
  sockets: { cri: '/c', sandboxer: '/s', admin: '/a', streaming: 'http://127.0.0.1:1' },
  schemaVersion: 2,
  bootId: 'boot',
  recovered: true,
  conditions: { RuntimeReady: true, NetworkReady: 'NoNetwork: none is configured' },
  sandboxes: { RUNNING: 1 },
  containers: {},
  owed: 0,
  running: [{ id: ID, name: 'stop', steps: ['queue'], sinceMs: 1500 }],
}
const POD: PodSummary = {
  id: ID,
  name: 'web\u001b[2J',
  namespace: 'default',
  state: 'RUNNING',
  quarantined: '',
  failure: 'CNI ADD: no addresses left',
  createdAt: '2026-01-01T00:00:00.000Z',
  handler: '',
  sandboxer: 'shim',
  frontEnd: 'cri',
  pid: 42,
  netns: '/run/netns/x',
  ips: ['10.0.0.2'],
  containers: 2,
  runMs: 120,
  steps: [{ name: 'setupSandboxNetwork', startMs: 1, durationMs: 80 }],
}
const OWED: LedgerLine = {
  ownerId: ID,
  seq: 4,
  kind: 'cni',
  state: 'releasing',
  subject: 'test eth0 /run/netns/x',
  bootId: 'boot',
  problem: 'CNI DEL: no such program',
}

let directory: string
let socket: string
let server: AdminServer | undefined

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'ctl-'))
  socket = join(directory, 'admin.sock')
})
afterEach(async () => {
  await server?.close(0)
  server = undefined
  await rm(directory, { recursive: true })
})

async function serve(routes: Routes): Promise<void> {
  server = new AdminServer({ socket, mode: 0o600, group: '' }, { routes, logger: pino({ level: 'silent' }) })
  await server.listen()
}

async function run(argv: readonly string[], signal = new AbortController().signal) {
  const result = { code: 0, stdout: '', stderr: '' }
  const sink = (name: 'stdout' | 'stderr') => ({ write: (text: string) => (result[name] += text) })
  const around = { stdout: sink('stdout'), stderr: sink('stderr'), env: {}, terminal: undefined, signal, version: '9' }
  result.code = await runCtl(argv, around)
  return result
}

/** With the socket of this test. */
async function ctl(...argv: string[]) {
  return run(['--socket', socket, ...argv])
}

describe('sandboxerctl', () => {
  it('lists its commands, and has a help for each', async () => {
    const { code, stdout } = await run(['--help'])
    expect(code).toBe(0)
    for (const { name, summary } of COMMANDS) {
      expect(stdout).toContain(`  ${name}`)
      expect(stdout).toContain(summary)
      const help = await run([...name.split(' '), '--help'])
      expect(help).toMatchObject({ code: 0, stderr: '' })
      expect(help.stdout).toContain(`Usage: sandboxerctl ${name}`)
      expect(help.stdout).toContain('--json')
      for (const line of help.stdout.split('\n')) expect(line.length, line).toBeLessThanOrEqual(100)
    }
    // It loads all there is.
  }, 30_000)

  it('tells how it was called wrongly with 2, and all else with 1', async () => {
    expect(await run(['pod'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('did you mean pods?') as string,
    })
    expect(await run(['inspect'])).toMatchObject({ code: 2 })
    expect(await run(['--config', '/nowhere.toml', 'status'])).toMatchObject({ code: 1 })
    expect(await run(['--version'])).toEqual({ code: 0, stdout: '9\n', stderr: '' })
  })

  it('says that the daemon does not run, where it should be, and how to start it', async () => {
    const { code, stderr } = await ctl('status')
    expect(code).toBe(1)
    expect(stderr).toContain(`sandboxerd is not running: nobody serves ${socket}`)
    expect(stderr).toContain('systemctl start sandboxerd')
  })

  it('passes on what the daemon has against it', async () => {
    const answer = async () => Promise.reject(new CodedError('NotFound', 'x\u001b: there is none'))
    await serve({ 'GET /v1/inspect/*': { answer } })
    expect(await ctl('inspect', 'x')).toEqual({
      code: 1,
      stdout: '',
      stderr: 'sandboxerctl: x\\u001b: there is none\n',
    })
  })

  it('says that the daemon is older than itself', async () => {
    await serve({ 'GET /v1/status': { answer: async () => ({ json: STATUS }) } })
    for (const [command, path] of [
      ['reload', 'POST /v1/reload'],
      ['doctor', 'POST /v1/doctor'],
      ['events', 'GET /v1/events'],
    ] as const) {
      const { code, stderr } = await ctl(command)
      expect(code).toBe(1)
      expect(stderr).toBe(
        `sandboxerctl: ${path}: sandboxerd cannot do that: it is older than this sandboxerctl, ` +
          'and needs an upgrade, or a restart after one\n',
      )
    }
  })

  it.each<[string, (socket: Socket) => unknown, string]>([
    ['is something else', (client) => client.end('SSH-2.0-x\r\n'), 'is not the admin server of sandboxerd'],
    [
      'speaks no JSON',
      (client) => client.end(`HTTP/1.1 200 OK\r\n\r\n<html>`),
      'is not the admin server of sandboxerd',
    ],
    ['hangs up', (client) => client.end(), 'has hung up without an answer'],
  ])('says what is wrong with a daemon that %s', async (_, onRequest, message) => {
    const strange = createPlainServer((client) => client.once('data', () => onRequest(client)))
    await new Promise<void>((resolve) => {
      strange.listen(socket, resolve)
    })
    const { code, stderr } = await ctl('status')
    await new Promise((resolve) => {
      strange.close(resolve)
    })
    expect(code).toBe(1)
    expect(stderr).toContain(`sandboxerctl: ${socket}: `)
    expect(stderr).toContain(message)
  })

  it('says what to do for those who may not', () => {
    const error = Object.assign(new Error('connect EACCES /s'), { code: 'EACCES' })
    expect(notReached('/s', error)).toMatchObject({
      code: 'PermissionDenied',
      message: expect.stringMatching(/^connect to \/s: this user may not \(try sudo/) as string,
    })
  })

  it('tells the status, and with its end whether pods can be run', async () => {
    await serve({ 'GET /v1/status': { answer: async () => ({ json: STATUS }) } })
    const { code, stdout } = await ctl('status')
    expect(code).toBe(1)
    expect(stdout).toContain('no: NoNetwork: none is configured')
    expect(stdout).toContain('stop abababababab'.concat('a, for 1.5 s: queue'))
    expect(JSON.parse((await ctl('status', '--json')).stdout)).toEqual(STATUS)
  })

  it('lists pods and their steps, with names made harmless', async () => {
    await serve({ 'GET /v1/pods': { answer: async () => ({ json: [POD] }) } })
    const { stdout } = await ctl('pods')
    expect(stdout).toContain('web\\u001b[2J')
    expect(stdout).not.toContain('\u001b')
    expect(stdout).toContain('ababababababa: CNI ADD: no addresses left\n')
    expect((await ctl('pods', '--steps', 'abab')).stdout).toMatch(/setupSandboxNetwork +1 ms +80 ms/)
    expect(await ctl('pods', 'cd')).toMatchObject({ code: 1, stderr: 'no pod has the id or name cd\n' })
    expect(JSON.parse((await ctl('pods', '-n', 'other', '--json')).stdout)).toEqual([])
  })

  it('does not take a wrong id for one that owns nothing', async () => {
    await serve({ 'GET /v1/ledger': { answer: async () => ({ json: [OWED] }) } })
    expect((await ctl('ledger', '--owed', 'abab')).stdout).toMatch(/abababababab.*\n.*4: CNI DEL: no such program\n$/)
    expect(await ctl('ledger', 'cd')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('cd: nothing') as string,
    })
    expect(await ctl('inspect', '')).toMatchObject({ code: 2 })
  })

  it('counts what doctor has found, whether or not it could be put right, and what it has put right', async () => {
    const finding = { kind: 'x', ownerId: null, subject: '/x', message: 'm', outcome: 'failed', problem: 'p' } as const
    const fixed = { ...finding, outcome: 'fixed', problem: null } as const
    await serve({
      'GET /v1/status': { answer: async () => ({ json: { ...STATUS, recovered: false } }) },
      'POST /v1/doctor': {
        answer: async ({ query }) => ({ json: query.get('fix') === 'true' ? [finding, fixed] : [finding] }),
      },
    })
    const found = await ctl('doctor')
    expect(found.code).toBe(1)
    expect(found.stdout).toMatch(/\n1 found; sandboxerctl doctor --fix puts right what can be\n$/)
    expect(found.stderr).toContain('has not looked at everything yet')
    expect(await ctl('doctor', '--fix')).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/\n1 fixed, 1 left\n$/) as string,
    })
  })

  it('gives up what is owed only when it is told to, and only that', async () => {
    const deleted: string[] = []
    const held = { ...OWED, seq: 0, kind: 'directory', state: 'held', problem: null }
    const other = { ...OWED, ownerId: 'ac'.repeat(32) }
    await serve({
      'GET /v1/ledger': { answer: async () => ({ json: [held, OWED, other] }) },
      'DELETE /v1/ledger/*': {
        answer: async ({ parameter }) => {
          deleted.push(parameter)
          return { json: { entry: OWED, left: [held] } }
        },
      },
    })
    const shown = await ctl('ledger', 'forget', 'abab', '4')
    expect(shown).toMatchObject({ code: 1, stderr: expect.stringContaining('nothing was changed') as string })
    expect(shown.stdout).toContain('CNI DEL: no such program')
    for (const operands of [
      ['a', '4'],
      ['abab', '0'],
      ['abab', '7'],
      ['cd', '4'],
    ]) {
      expect(await ctl('ledger', 'forget', '--yes', ...operands)).toMatchObject({ code: 1, stdout: '' })
    }
    expect(await ctl('ledger', 'forget', '--yes', 'abab', 'cni')).toMatchObject({ code: 2 })
    expect(deleted).toEqual([])
    expect(await ctl('ledger', 'forget', '--yes', 'abab', '4')).toEqual({
      code: 0,
      stdout: 'given up: cni test eth0 /run/netns/x\n',
      stderr: '',
    })
    expect(deleted).toEqual([`${ID}/4`])
  })

  it('follows events until it is interrupted', async () => {
    const happening: Happening = {
      at: '2026-01-01T00:00:00.000Z',
      type: 'STARTED',
      id: 'cd'.repeat(32),
      sandboxId: ID,
      name: 'nginx',
      pod: { name: 'web', namespace: 'default' },
    }
    const interrupt = new AbortController()
    const lines = async function* (signal: AbortSignal) {
      yield happening
      setTimeout(() => interrupt.abort(new Interrupted('SIGINT')), 50)
      await aborted(signal)
    }
    await serve({ 'GET /v1/events': { isStream: true, answer: async ({ signal }) => ({ lines: lines(signal) }) } })
    const { code, stdout } = await run(['--socket', socket, 'events', '-f'], interrupt.signal)
    expect(stdout).toBe('2026-01-01T00:00:00.000Z STARTED container cdcdcdcdcdcdc nginx (default/web)\n')
    expect(code).toBe(130)
  })

  it('ends with the error that ends the events', async () => {
    const lines = async function* () {
      yield { ...STATUS }
      await sleep(5)
      throw new CodedError('ResourceExhausted', 'too slow')
    }
    await serve({ 'GET /v1/events': { isStream: true, answer: async () => ({ lines: lines() }) } })
    expect(await ctl('events', '--json')).toMatchObject({ code: 1, stderr: 'sandboxerctl: too slow\n' })
  })

  it('waits for no other daemon when this one refuses it', async () => {
    const answer = async () => Promise.reject(new CodedError('ResourceExhausted', 'follow events: 32 clients do so'))
    await serve({ 'GET /v1/events': { isStream: true, answer } })
    expect(await ctl('events', '-f')).toEqual({
      code: 1,
      stdout: '',
      stderr: 'sandboxerctl: follow events: 32 clients do so\n',
    })
  })

  it.each([['ledger'], ['events']])('says that the daemon has gone away while it answered (%s)', async (command) => {
    const dying = createServer((_request, response) => {
      response.writeHead(200, { 'Content-Length': 100 })
      response.write('[{"at":')
      setTimeout(() => response.destroy(), 50)
    })
    await new Promise<void>((resolve) => {
      dying.listen(socket, resolve)
    })
    const { code, stderr } = await ctl(command)
    await new Promise((resolve) => {
      dying.close(resolve)
    })
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: 'sandboxerctl: sandboxerd has gone away before its answer was whole\n',
    })
  })

  it('changes log levels', async () => {
    const bodies: unknown[] = []
    const answer = async ({ body }: { readonly body: unknown }) => {
      bodies.push(body)
      return { json: { '': 'info', cni: 'debug', grpc: '' } }
    }
    await serve({ 'PUT /v1/log-levels': { answer }, 'GET /v1/log-levels': { answer } })
    const { stdout } = await ctl('log-level', 'warn', 'cni=debug', 'grpc=')
    expect(bodies).toEqual([{ '': 'warn', cni: 'debug', grpc: '' }])
    expect(stdout).toMatch(/\(all\) +info\ncni +debug\ngrpc +info\n/)
    expect(await ctl('log-level', '=debug')).toMatchObject({ code: 2 })
  })

  it('gives up a daemon that does not answer', async () => {
    await serve({ 'POST /v1/reload': { answer: async () => new Promise(() => {}) } })
    const { AdminClient } = await import('../../../src/ctl/admin-client.ts')
    const client = new AdminClient({ socketPath: socket, signal: new AbortController().signal })
    const call = client.call('/v1/reload', { method: 'POST', timeoutMs: 50 })
    await expect(call).rejects.toMatchObject({ code: 'DeadlineExceeded' })
  })
})
