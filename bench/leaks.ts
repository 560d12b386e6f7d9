import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { processesBeside } from '../test/support/daemon-facts.ts'
import { pushImage } from '../test/support/images.ts'
import { startRegistry } from '../test/support/registry.ts'
import { openRemoteCommand, type RemoteCommandClient } from '../test/support/streaming-client.ts'
import type { Cri } from './cri.ts'
import { Inspector } from './inspector.ts'
import { Machine } from './machine.ts'
import { type BenchOptions, parseOptions } from './options.ts'
import { findOnPath, procNumber } from './process.ts'
import { startSandboxerd } from './sandboxerd.ts'
import { fixed, table } from './stats.ts'
import { criWorkload } from './workload.ts'

const USAGE = `usage: bench/run.sh leaks [OPTION...]
Runs commands that are not there, lets clients attach and vanish, and has many clients at once with containers that are
silent; and prints what the daemon holds before and after.

  --times N      how many commands, and how many clients that vanish   default: 10000
  --clients N    how many clients at once                              default: 200
  --seconds N    how long they stay                                    default: 20`

const AT_A_TIME = 8
const WARM_UP = 300
/** How long a daemon may take to clear up. */
const SETTLE_MS = 3000
const ALL = { stdin: true, stdout: true, stderr: true }
const TRANSPORTS = ['spdy', 'websocket'] as const

/** What a daemon holds after its garbage has been collected. */
interface Holding {
  readonly when: string
  readonly descriptors: number
  readonly threads: number
  readonly rssMib: number
  readonly heapMib: number
  readonly externalMib: number
  /** Processes in the container. */
  readonly processes: number
}

interface Daemon {
  readonly cri: Cri
  readonly pid: number
  readonly inspector: Inspector
  readonly containers: readonly string[]
}

const transportOf = (number: number) => TRANSPORTS[number % 2] ?? 'spdy'

async function missing({ cri, containers: [id = ''] }: Daemon, number: number): Promise<void> {
  const url = await cri.streamUrls.exec(id, ['/no/such/program'], ALL)
  const client = await openRemoteCommand(url, { ...ALL, transport: transportOf(number) })
  const status = await client.status
  if (typeof status === 'string' || status.status !== 'Failure')
    throw new Error(`a missing program: ${JSON.stringify(status)}`)
  await client.close()
}

async function attach({ cri, containers }: Daemon, number: number): Promise<RemoteCommandClient> {
  const url = await cri.streamUrls.attach(containers[number % containers.length] ?? '', ALL)
  return openRemoteCommand(url, { ...ALL, transport: transportOf(number >> 2) })
}

async function attachAndLeave(daemon: Daemon, number: number): Promise<void> {
  const client = await attach(daemon, number)
  client.destroy()
}

async function repeatedly(times: number, work: (number: number) => Promise<void>): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    for (let number = next++; number < times; number = next++) await work(number)
  }
  await Promise.all(Array.from({ length: AT_A_TIME }, worker))
}

async function holding(when: string, { cri, pid, inspector, containers: [id = ''] }: Daemon): Promise<Holding> {
  await sleep(SETTLE_MS)
  await inspector.collectGarbage()
  const { heapUsed, external } = (await inspector.evaluate('process.memoryUsage()')) as NodeJS.MemoryUsage
  const { pid: main = 0 } = await cri.containerInfo(id)
  return {
    when,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: procNumber(pid, 'status', 'Threads'),
    rssMib: procNumber(pid, 'status', 'VmRSS') / 1024,
    heapMib: heapUsed / 2 ** 20,
    externalMib: external / 2 ** 20,
    processes: processesBeside(main).length,
  }
}

function show(title: string, list: readonly Holding[]): void {
  const rows = list.map(({ when, descriptors, threads, rssMib, heapMib, externalMib, processes }) => [
    when,
    ...[descriptors, threads].map(String),
    ...[rssMib, heapMib, externalMib].map(fixed),
    String(processes),
  ])
  const head = ['', 'descriptors', 'threads', 'RSS, MiB', 'heap, MiB', 'external, MiB', 'processes']
  console.log(`${title}\n${table(head, rows)}\n`)
}

/** The delay of the daemon's event loop while it is left alone for some seconds, in milliseconds. */
async function loopDelay({ inspector }: Daemon, seconds: number): Promise<{ p50: number; p99: number; max: number }> {
  const made = "process.getBuiltinModule('node:perf_hooks').monitorEventLoopDelay({ resolution: 5 })"
  await inspector.evaluate(`globalThis.delay = ${made}; delay.enable()`)
  await sleep(seconds * 1000)
  const read = '[50, 99, 100].map((share) => delay.percentile(share) / 1e6)'
  const [p50 = 0, p99 = 0, max = 0] = (await inspector.evaluate(`delay.disable(); ${read}`)) as number[]
  return { p50, p99, max }
}

async function manyClients(daemon: Daemon, count: number, seconds: number): Promise<void> {
  const before = await holding('before', daemon)
  const alone = await loopDelay(daemon, seconds)
  const clients: RemoteCommandClient[] = []
  await repeatedly(count, async (number) => {
    clients[number] = await attach(daemon, number)
  })
  const during = await holding(`with ${count} clients`, daemon)
  const together = await loopDelay(daemon, seconds)
  const reads: number[] = []
  for (let number = 0; number < 50; number++) {
    const began = performance.now()
    await daemon.cri.execSync(daemon.containers[0] ?? '', ['/bin/true'])
    reads.push(performance.now() - began)
  }
  for (const client of clients) client.destroy()
  show(`${count} clients of ${daemon.containers.length} silent containers`, [
    before,
    during,
    await holding('after', daemon),
  ])
  const rows = [['alone', alone] as const, [`with ${count} clients`, together] as const].map(([when, delay]) => [
    when,
    ...[delay.p50, delay.p99, delay.max].map(fixed),
  ])
  // A timer that is asked for every 5 ms is never early.
  console.log(`delay of the event loop, the sampling's 5 ms included (ms)\n${table(['', 'p50', 'p99', 'max'], rows)}\n`)
  console.log(`ExecSync of true meanwhile: at most ${fixed(Math.max(...reads))} ms\n`)
}

async function leaks(options: BenchOptions, times: number, clients: number, seconds: number): Promise<void> {
  await using machine = new Machine()
  const nodeArgs = [...options.nodeArgs, '--inspect=127.0.0.1:0']
  await using server = await startSandboxerd({ ...options, nodeArgs }, machine, machine.network(false))
  await using registry = await startRegistry()
  machine.allowRegistry(registry.address)
  const { ref } = await pushImage(registry, { name: 'bench/busybox' })
  const cri = server.cri()
  await cri.pull(ref)
  const [, pinned] = server.subjects
  if (!pinned) throw new Error('sandboxerd has no handler pinned')
  const podId = await pinned.up('leaks', true)
  const workload = criWorkload({ pidPerContainer: true, image: ref }, { subject: pinned, cri, machine })
  const containers: string[] = []
  for (let number = 0; number < 4; number++) {
    const id = await workload.create(podId, 'leaks', true, { stdin: true })
    await workload.start(id)
    containers.push(id)
  }
  using inspector = await Inspector.of(server.daemon)
  const daemon = { cri, pid: server.daemon.pid, inspector, containers }
  for (const [what, work] of [
    ['commands that are not there', missing],
    ['clients that attach and vanish', attachAndLeave],
  ] as const) {
    await repeatedly(WARM_UP, (number) => work(daemon, number))
    const list = [await holding('before', daemon)]
    const began = performance.now()
    for (const half of [0.5, 1]) {
      await repeatedly(times / 2, (number) => work(daemon, number))
      list.push(await holding(`after ${times * half}`, daemon))
    }
    const perSecond = (1000 * times) / (performance.now() - began - 2 * SETTLE_MS)
    show(`${times} ${what}, ${AT_A_TIME} at a time, ${fixed(perSecond)}/s`, list)
  }
  await manyClients(daemon, clients, seconds)
}

const { values } = parseArgs({
  options: {
    times: { type: 'string', default: '10000' },
    clients: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '20' },
    help: { type: 'boolean', short: 'h', default: false },
  },
})
const options = parseOptions([], process.env, findOnPath)
if (values.help || !options) console.log(USAGE)
else await leaks(options, Number(values.times), Number(values.clients), Number(values.seconds))
