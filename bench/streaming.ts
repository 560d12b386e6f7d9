import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import {
  exitCode,
  openPortForward,
  openRemoteCommand,
  type PortForwardClient,
  type RemoteCommandClient,
} from '../test/support/streaming-client.ts'
import type { Cri } from './cri.ts'
import type { Machine } from './machine.ts'
import type { BenchOptions } from './options.ts'
import type { Server } from './server.ts'
import type { Subject } from './subject.ts'
import { criWorkload, EXECED } from './workload.ts'

const WARM_UP_ROUNDS = 3
const BULK_ROUNDS = 5
const TRIES = 3
const DONE = 'done'
const CHUNK = Buffer.alloc(64 * 1024)
const [SOURCE_PORT, SINK_PORT] = [7001, 7002]

/** What carries a session, and what the client is told to use. */
export const CARRIERS = ['spdy', 'websocket'] as const
export type Carrier = (typeof CARRIERS)[number]

/** The ways that bytes go: out of a command and into it, from a port of a pod and to it. */
export const WAYS = ['exec stdout', 'exec stdin', 'port-forward from', 'port-forward to'] as const
export type Way = (typeof WAYS)[number]

/** The numbers of one subject. */
export interface StreamingTimes {
  /** Milliseconds from the call to the exit code. */
  readonly execSync: number[]
  readonly exec: Record<Carrier, number[]>
  /** MiB/s. */
  readonly bulk: Record<Carrier, Record<Way, number[]>>
}

export interface StreamingResults {
  readonly mib: number
  readonly times: ReadonlyMap<string, StreamingTimes>
}

/** A subject with a container that runs, and the servers in it. */
interface Target {
  readonly name: string
  readonly subject: Subject
  readonly cri: Cri
  readonly podId: string
  readonly id: string
}

/** Sessions of all subjects in turns, one at a time, all by the same client. */
export async function measureStreaming(
  servers: readonly Server[],
  image: string,
  options: BenchOptions,
  machine: Machine,
  signal: AbortSignal,
): Promise<StreamingResults> {
  const targets: Target[] = []
  try {
    for (const server of servers) {
      await server.cri().pull(image)
      for (const subject of server.subjects) targets.push(await target(server.cri(), subject, image, options, machine))
    }
    const times = new Map(targets.map(({ name }) => [name, noTimes()]))
    for (let round = -WARM_UP_ROUNDS; round < options.rounds; round++) {
      if (round === 0) for (const { name } of targets) times.set(name, noTimes())
      for (const of of inTurn(targets, round)) {
        signal.throwIfAborted()
        await measureExecs(of, times.get(of.name) ?? noTimes())
      }
    }
    for (let round = -1; round < BULK_ROUNDS; round++) {
      for (const carrier of CARRIERS) {
        for (const way of WAYS) {
          for (const of of inTurn(targets, round)) {
            signal.throwIfAborted()
            const rate = await mibPerSecond(of, carrier, way, options.streamedMib)
            if (round >= 0) times.get(of.name)?.bulk[carrier][way].push(rate)
          }
        }
      }
    }
    return { mib: options.streamedMib, times }
  } finally {
    for (const { subject, podId } of targets) {
      await subject.stop(podId)
      await subject.remove(podId)
    }
  }
}

/** Each round begins with another one. */
function inTurn(targets: readonly Target[], round: number): Target[] {
  const first = Math.abs(round) % targets.length
  return [...targets.slice(first), ...targets.slice(0, first)]
}

async function target(
  cri: Cri,
  subject: Subject,
  image: string,
  options: BenchOptions,
  machine: Machine,
): Promise<Target> {
  const name = `streaming-${subject.name}`
  const podId = await subject.up(name, false)
  const workload = criWorkload({ pidPerContainer: subject.pidPerContainer, image }, { subject, cri, machine })
  const blocks = options.streamedMib * 16
  const script = [
    `busybox nc -ll -p ${SOURCE_PORT} -e dd if=/dev/zero bs=64k count=${blocks} 2>/dev/null &`,
    `busybox nc -ll -p ${SINK_PORT} -e sh -c 'dd of=/dev/null bs=64k count=${blocks} iflag=fullblock 2>/dev/null; printf ${DONE}' &`,
    'trap "exit 0" TERM; sleep 100000 & wait',
  ]
  const id = await workload.create(podId, name, false, { command: ['/bin/sh', '-c', script.join('\n')] })
  await workload.start(id)
  return { name: subject.name, subject, cri, podId, id }
}

async function measureExecs({ cri, id }: Target, times: StreamingTimes): Promise<void> {
  const began = performance.now()
  await cri.execSync(id, EXECED)
  times.execSync.push(performance.now() - began)
  for (const carrier of CARRIERS) {
    const before = performance.now()
    const client = await exec(cri, id, carrier, EXECED, { stdout: true, stderr: true })
    await succeeded(client)
    times.exec[carrier].push(performance.now() - before)
    await client.close()
  }
}

async function exec(
  cri: Cri,
  id: string,
  transport: Carrier,
  command: readonly string[],
  streams: { readonly stdin?: boolean; readonly stdout?: boolean; readonly stderr?: boolean },
): Promise<RemoteCommandClient> {
  return openRemoteCommand(await cri.streamUrls.exec(id, command, streams), { transport, ...streams })
}

async function succeeded(client: RemoteCommandClient): Promise<void> {
  const code = exitCode(await client.status)
  if (code !== 0) throw new Error(`the command ended with exit code ${code}`)
}

/**
 * From the first byte that is asked for to the last one that has arrived. NaN where there is no such way (before v5, input has no
 * end over WebSocket), or when it does not all arrive, try as we may.
 */
async function mibPerSecond(of: Target, carrier: Carrier, way: Way, mib: number): Promise<number> {
  for (let tries = 0; tries < TRIES; tries++) {
    const began = performance.now()
    const bytes = await BULK[way](of, carrier, mib).catch((error: unknown) => String(error))
    const ms = performance.now() - began
    if (Number.isNaN(bytes)) return Number.NaN
    if (bytes === mib * 2 ** 20) return (1000 * mib) / ms
    console.error(`bench: ${of.name}, ${carrier}, ${way}: ${bytes}, and not all of ${mib} MiB`)
  }
  return Number.NaN
}

const BULK: Record<Way, (of: Target, carrier: Carrier, mib: number) => Promise<number>> = {
  'exec stdout': async ({ cri, id }, carrier, mib) => {
    const command = ['/bin/dd', 'if=/dev/zero', 'bs=64k', `count=${mib * 16}`, 'status=none']
    const client = await exec(cri, id, carrier, command, { stdout: true })
    const [bytes] = await Promise.all([count(client.stdout, mib * 2 ** 20), succeeded(client)])
    await client.close()
    return bytes
  },
  'exec stdin': async ({ cri, id }, carrier, mib) => {
    // Some give commands an input that does not block, which dd takes for an end.
    const command = ['/bin/sh', '-c', 'cat | dd of=/dev/null bs=64k iflag=fullblock 2>&1']
    const client = await exec(cri, id, carrier, command, { stdin: true, stdout: true })
    const { stdin, stdout } = client
    if (!stdin || !stdout) throw new Error('exec: there is no input, or no output')
    if (carrier === 'websocket' && !client.protocol.startsWith('v5.')) {
      await client.close()
      return Number.NaN
    }
    let said = ''
    stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    const filled = fill(stdin, mib).then(() => stdin.end())
    await Promise.all([filled, succeeded(client)])
    await client.close()
    // The command tells how much has come.
    return Number(/^(\d+)\+0 records in/.exec(said)?.[1] ?? 0) * CHUNK.length
  },
  'port-forward from': async ({ cri, podId }, carrier, mib) => {
    const client = await forwarder(cri, podId, carrier, SOURCE_PORT)
    const { data } = client.connect(SOURCE_PORT)
    const bytes = await count(data, mib * 2 ** 20)
    await client.close()
    return bytes
  },
  'port-forward to': async ({ cri, podId }, carrier, mib) => {
    const client = await forwarder(cri, podId, carrier, SINK_PORT)
    const { data } = client.connect(SINK_PORT)
    // It answers when it has read all.
    const [answer] = await Promise.all([count(data, DONE.length), fill(data, mib)])
    await client.close()
    return answer === DONE.length ? mib * 2 ** 20 : 0
  },
}

/** Over WebSocket as channels, which all have, and not as SPDY in a tunnel. */
async function forwarder(cri: Cri, podId: string, carrier: Carrier, port: number): Promise<PortForwardClient> {
  if (carrier === 'spdy') return openPortForward(await cri.streamUrls.portForward(podId), { transport: carrier })
  return openPortForward(await cri.streamUrls.portForward(podId, [port]), { transport: carrier, ports: [port] })
}

/** Counts what comes, until it is so much, or ends; servers that are written in Go end their streams by a reset. */
async function count(readable: Readable | null, wanted: number): Promise<number> {
  let bytes = 0
  if (readable === null) return bytes
  await new Promise<void>((resolve) => {
    readable.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes >= wanted) resolve()
    })
    readable.once('end', resolve).once('close', resolve)
  })
  return bytes
}

/** Writes so much as fast as it is taken. */
async function fill(writable: Writable, mib: number): Promise<void> {
  for (let left = mib * 16; left > 0; left--) {
    if (!writable.write(CHUNK)) await once(writable, 'drain')
  }
}

function noTimes(): StreamingTimes {
  const ways = (): Record<Way, number[]> => ({
    'exec stdout': [],
    'exec stdin': [],
    'port-forward from': [],
    'port-forward to': [],
  })
  return { execSync: [], exec: { spdy: [], websocket: [] }, bulk: { spdy: ways(), websocket: ways() } }
}
