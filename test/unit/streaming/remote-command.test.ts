import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { afterEach, describe, expect, it } from 'vitest'
import { sleep } from '../../../src/core/deadline.ts'
import { CodedError } from '../../../src/core/errors.ts'
import type { StreamingServerOptions } from '../../../src/streaming/server.ts'
import {
  openRemoteCommand,
  type RemoteCommandClient,
  type RemoteCommandOptions,
} from '../../support/streaming-client.ts'
import { ATTACH, EXEC, type Fixture, startStreaming, TERMINAL, until } from './streaming-fixture.ts'

let fixture: Fixture
const clients: RemoteCommandClient[] = []

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await fixture[Symbol.asyncDispose]()
})

async function exec(
  options: Pick<RemoteCommandOptions, 'transport' | 'protocol'>,
  request = EXEC,
  changes: Partial<StreamingServerOptions> = {},
): Promise<RemoteCommandClient> {
  fixture = await startStreaming(changes)
  return open(fixture.server.execUrl('c1', request), { ...options, ...request, tty: request.terminal })
}

async function open(url: string, options: RemoteCommandOptions): Promise<RemoteCommandClient> {
  const client = await openRemoteCommand(url, options)
  clients.push(client)
  return client
}

const all = (stream: Readable | null): Promise<Buffer> => (stream ? buffer(stream) : Promise.resolve(Buffer.alloc(0)))
const hash = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

const SPDY = { transport: 'spdy' } as const
const WEBSOCKET = { transport: 'websocket' } as const
const EVERY = [
  { transport: 'spdy', protocol: 'v4.channel.k8s.io' },
  { transport: 'spdy', protocol: 'v3.channel.k8s.io' },
  { transport: 'spdy', protocol: 'v2.channel.k8s.io' },
  { transport: 'spdy', protocol: 'channel.k8s.io' },
  { transport: 'websocket', protocol: 'v5.channel.k8s.io' },
  { transport: 'websocket', protocol: 'v4.channel.k8s.io' },
  { transport: 'websocket', protocol: 'channel.k8s.io' },
] as const

describe.each(EVERY)('$transport with $protocol', (options) => {
  const hasJson = /^v[45]/.test(options.protocol)

  it('carries every byte of all streams, and then the exit code', async () => {
    const client = await exec(options)
    const process = await fixture.process()
    const [input, output, errors] = [randomBytes(300_000), randomBytes(2_000_000), randomBytes(70_000)]
    client.stdin?.write(input)
    const typed: Buffer[] = []
    let typedBytes = 0
    process.stdin?.on('data', (chunk: Buffer) => {
      typed.push(chunk)
      typedBytes += chunk.length
    })
    await until(() => typedBytes === input.length)
    process.stdout?.write(output)
    process.stderr?.write(errors)
    process.exit(3)
    const [stdout, stderr, status] = await Promise.all([all(client.stdout), all(client.stderr), client.status])
    expect([hash(Buffer.concat(typed)), hash(stdout), hash(stderr)]).toEqual([hash(input), hash(output), hash(errors)])
    if (hasJson) expect(status).toMatchObject({ reason: 'NonZeroExitCode', details: { causes: [{ message: '3' }] } })
    else expect(status).toBe('command terminated with non-zero exit code: 3')
    expect(fixture.containers.calls[0]).toMatchObject({ verb: 'exec', subject: 'c1', request: EXEC })
    await process.disposed
  })

  it('says nothing special of success', async () => {
    const client = await exec(options)
    const process = await fixture.process()
    process.exit(0)
    expect(await client.status).toEqual(hasJson ? { metadata: {}, status: 'Success' } : '')
    await client.close()
    await until(() => fixture.logLines.some((line) => line.includes('session ended')))
    expect(fixture.logLines.filter((line) => line.includes('broke off'))).toEqual([])
  })

  it('says why a command cannot be run', async () => {
    fixture = await startStreaming()
    fixture.containers.inTheWay = async () => {
      throw new CodedError('FailedPrecondition', 'run sh in container c1: it does not run')
    }
    const client = await open(fixture.server.execUrl('c1', EXEC), { ...options, ...EXEC })
    const text = 'Internal error occurred: run sh in container c1: it does not run'
    expect(await client.status).toEqual(hasJson ? expect.objectContaining({ message: text, code: 500 }) : text)
  })
})

describe.each([SPDY, WEBSOCKET])('a remote command over $transport', (options) => {
  it('ends the input when the client does', async () => {
    const client = await exec(options)
    const process = await fixture.process()
    client.stdin?.end('abc')
    expect(String(await all(process.stdin))).toBe('abc')
    process.stdout?.write('still here')
    process.exit(0)
    expect(String(await all(client.stdout))).toBe('still here')
    expect(await client.status).toMatchObject({ status: 'Success' })
  })

  it('tells the process how large the terminal is', async () => {
    const client = await exec(options, TERMINAL)
    const process = await fixture.process()
    client.resize({ width: 80, height: 24 })
    await until(() => process.sizes.length === 1)
    client.resize({ width: 132, height: 50 })
    await until(() => process.sizes.length === 2)
    expect(process.sizes.at(-1)).toEqual({ width: 132, height: 50 })
  })

  it('ends with a client that tells sizes which are none', async () => {
    const client = await exec(options, TERMINAL)
    const process = await fixture.process()
    client.resize({ width: -1, height: 1e9 })
    await process.disposed
    expect(fixture.containers.calls[0]?.signal.reason).toMatchObject({ code: 'InvalidArgument' })
  })

  it('ends with a client that vanishes, whatever the process does', async () => {
    const client = await exec(options)
    const process = await fixture.process()
    client.destroy()
    await process.disposed
    expect(fixture.containers.calls[0]?.signal.aborted).toBe(true)
    await until(() => fixture.logLines.some((line) => line.includes('session ended')))
    expect(process.disposals).toBe(1)
  })

  it('ends when a client vanishes while its input is not read', async () => {
    const client = await exec(options, EXEC, { pingIntervalMs: 20 })
    const process = await fixture.process()
    for (let at = 0; at < 40; at += 1) client.stdin?.write(randomBytes(500_000))
    await until(() => (process.stdin?.writableLength ?? 0) > 0)
    client.destroy()
    await process.disposed
  })

  it('ends when it has been idle, and says so', async () => {
    const client = await exec(options, EXEC, { idleTimeoutMs: 60, pingIntervalMs: 5 })
    const process = await fixture.process()
    expect(await client.status).toMatchObject({ message: expect.stringContaining('idle for 60 ms') as string })
    await process.disposed
  })

  it('lets the process end while the client still types', async () => {
    const client = await exec(options)
    const process = await fixture.process()
    const typing = setInterval(() => client.stdin?.write(randomBytes(100_000)), 1)
    client.stdin?.on('error', () => {})
    process.stdout?.write('done')
    process.exit(0)
    const output = await all(client.stdout)
    expect([String(output), await client.status]).toEqual(['done', { metadata: {}, status: 'Success' }])
    clearInterval(typing)
  })

  it('ends with the process also when its input is full, and the client types on', async () => {
    const client = await exec(options)
    const process = await fixture.process()
    for (let at = 0; at < 40; at += 1) client.stdin?.write(randomBytes(500_000))
    await until(() => (process.stdin?.writableLength ?? 0) > 0)
    process.exit(0)
    expect(await client.status).toMatchObject({ status: 'Success' })
    await client.close()
    await until(() => fixture.logLines.some((line) => line.includes('session ended')))
  })

  it('ends at once when there is no process, and the client types on', async () => {
    fixture = await startStreaming()
    let isRefused = (): void => {}
    fixture.containers.inTheWay = () =>
      new Promise((_, reject) => {
        isRefused = () => reject(new CodedError('FailedPrecondition', 'it does not run'))
      })
    const client = await open(fixture.server.execUrl('c1', EXEC), { ...options, ...EXEC })
    for (let at = 0; at < 40; at += 1) client.stdin?.write(randomBytes(500_000))
    await sleep(200)
    isRefused()
    expect(await client.status).toMatchObject({ message: expect.stringContaining('it does not run') as string })
    await client.close()
    await until(() => fixture.logLines.some((line) => line.includes('session ended')))
    expect(fixture.logLines.filter((line) => line.includes('session broke off'))).toEqual([])
  })

  it.each([
    ['reads no more', undefined],
    ['has closed its input', Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })],
  ])('goes on when the process %s', async (_, error) => {
    const client = await exec(options)
    const process = await fixture.process()
    process.stdin?.destroy(error)
    for (let at = 0; at < 50; at += 1) client.stdin?.write(randomBytes(100_000))
    await new Promise<void>((resolve, reject) => {
      client.stdin?.end((error?: Error | null) => (error ? reject(error) : resolve()))
    })
    process.stdout?.write('done')
    process.exit(0)
    expect(String(await all(client.stdout))).toBe('done')
    expect(await client.status).toMatchObject({ status: 'Success' })
  })

  it('says when the process is lost in between', async () => {
    const client = await exec(options)
    const process = await fixture.process()
    process.stdout?.write('half')
    process.fail(new CodedError('Internal', 'wait for the command: the relay has died'))
    expect(await client.status).toMatchObject({ message: expect.stringContaining('the relay has died') as string })
    await process.disposed
  })

  it('says when the output of the process cannot be read', async () => {
    const client = await exec(options)
    const process = await fixture.process()
    process.stdout?.destroy(new Error('read EIO'))
    expect(await client.status).toMatchObject({ message: expect.stringContaining('read EIO') as string })
  })

  it('holds back a process whose client does not read, and loses nothing', async () => {
    const client = await exec(options)
    const process = await fixture.process()
    const chunk = randomBytes(64 * 1024)
    let written = 0
    const total = 64 * 1024 * 1024
    const feed = (): void => {
      while (written < total) {
        written += chunk.length
        if (process.stdout?.write(chunk) === false) {
          process.stdout.once('drain', feed)
          return
        }
      }
      process.exit(0)
    }
    feed()
    let before = -1
    while (before !== written) {
      before = written
      await sleep(100)
    }
    // What the sockets of the kernel take is theirs to say.
    expect(written).toBeLessThan(total / 2)
    let read = 0
    for await (const part of client.stdout ?? []) read += (part as Buffer).length
    expect(read).toBe(total)
    expect(await client.status).toMatchObject({ status: 'Success' })
  })

  it('holds back a client whose process does not read, and still carries its output', async () => {
    const client = await exec(options)
    const process = await fixture.process()
    const chunk = randomBytes(1024 * 1024 - 1024)
    let taken = 0
    for (let at = 0; at < 40; at += 1) {
      client.stdin?.write(chunk, () => {
        taken += 1
      })
    }
    process.stdout?.write('meanwhile')
    const { value } = (await (client.stdout ?? Readable.from([]))[Symbol.asyncIterator]().next()) as { value: Buffer }
    expect(String(value)).toBe('meanwhile')
    let before = -1
    while (before !== taken) {
      before = taken
      await sleep(100)
    }
    expect(taken).toBeLessThan(40)
    let read = 0
    process.stdin?.on('data', (part: Buffer) => {
      read += part.length
    })
    await until(() => read === 40 * chunk.length)
  })
})

describe('a client over SPDY that closes an output', () => {
  it('is told the end all the same', async () => {
    const client = await exec(SPDY)
    const process = await fixture.process()
    client.stdout?.destroy()
    const writing = setInterval(() => process.stdout?.write('out'), 5)
    expect(await client.status).toMatchObject({ status: 'Failure' })
    clearInterval(writing)
  })
})

describe('attach', () => {
  it.each([SPDY, WEBSOCKET])(
    'over $transport ends with the process, whose exit code is no news here',
    async (options) => {
      fixture = await startStreaming()
      const client = await open(fixture.server.attachUrl('c1', ATTACH), { ...options, ...ATTACH })
      const process = await fixture.process()
      process.stdout?.write('out')
      process.exit(9)
      expect(String(await all(client.stdout))).toBe('out')
      expect(await client.status).toMatchObject({ status: 'Success' })
      expect(fixture.containers.calls[0]).toMatchObject({ verb: 'attach', subject: 'c1', request: ATTACH })
    },
  )
})

describe('what was not asked for', () => {
  it.each([SPDY, WEBSOCKET])('is not carried over $transport', async (options) => {
    fixture = await startStreaming()
    const request = { ...EXEC, stdin: false, stderr: false }
    // The client opens more than it has asked for.
    const client = await open(fixture.server.execUrl('c1', request), { ...options, ...EXEC, tty: true })
    const process = await fixture.process()
    client.stdin?.write(randomBytes(1_000_000))
    client.resize({ width: -1, height: -1 })
    process.stdout?.write('out')
    process.exit(0)
    expect(String(await all(client.stdout))).toBe('out')
    expect(await client.status).toMatchObject({ status: 'Success' })
    expect(process.sizes).toEqual([])
  })
})
