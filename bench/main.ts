import { writeFileSync } from 'node:fs'
import { pushImage } from '../test/support/images.ts'
import { startRegistry } from '../test/support/registry.ts'
import { containerTables, containerVerdicts } from './container-report.ts'
import { type ContainerResults, measureContainers } from './containers.ts'
import { startContainerd } from './containerd.ts'
import type { Cri } from './cri.ts'
import { Floor } from './floor.ts'
import { load } from './load.ts'
import { describeMachine, Machine } from './machine.ts'
import { type Memory, measureMemory } from './memory.ts'
import { type BenchOptions, type NetworkMode, parseOptions, USAGE } from './options.ts'
import { findOnPath, procNumber } from './process.ts'
import { measureReads, type Reads } from './reads.ts'
import { measureRecovery, type Recovery } from './recovery.ts'
import * as report from './report.ts'
import { measureSandboxer, type SandboxerResults } from './sandboxer.ts'
import { sandboxerTables, sandboxerVerdicts } from './sandboxer-report.ts'
import { startSandboxerd } from './sandboxerd.ts'
import { measureStreaming, type StreamingResults } from './streaming.ts'
import { streamingTables, streamingVerdicts } from './streaming-report.ts'
import type { Server } from './server.ts'
import type { Subject } from './subject.ts'

const WARM_UP_ROUNDS = 3
const MEMORY_PODS = 32
const READ_ROUNDS = 3
const KILL_ROUNDS = 5

interface Results {
  readonly machine: readonly string[]
  readonly at: string
  readonly loads: report.LoadResult[]
  readonly memory: Memory[]
  readonly reads: Reads[]
  readonly recovery: Recovery[]
  readonly containers: ContainerResults[]
  readonly streaming: StreamingResults[]
  readonly sandboxer: SandboxerResults[]
}

/** Those that are compared, with daemons of their own, on one kind of bridge. */
class Rig implements AsyncDisposable {
  readonly sandboxerd: Server
  /** Another build of sandboxerd, and containerd, where there are. */
  readonly peers: readonly Server[]
  readonly floor: Floor

  private constructor(sandboxerd: Server, peers: readonly Server[], floor: Floor) {
    this.sandboxerd = sandboxerd
    this.peers = peers
    this.floor = floor
  }

  static async start(options: BenchOptions, machine: Machine, masquerade: boolean): Promise<Rig> {
    const sandboxerd = await startSandboxerd(options, machine, machine.network(masquerade))
    const peers: Server[] = []
    try {
      if (options.other) {
        const other = { build: options.other, prefix: 'other-' }
        peers.push(await startSandboxerd(options, machine, machine.network(masquerade), other))
      }
      if (options.containerd) peers.push(await startContainerd(options, machine, machine.network(masquerade)))
      const floor = new Floor(options, machine, machine.network(masquerade), await pauseSpec(sandboxerd))
      return new Rig(sandboxerd, peers, floor)
    } catch (error) {
      for (const server of [...peers, sandboxerd]) await server[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Whom to ask how long the steps of a subject took: those that tell. */
  steps(subject: Subject): Cri | undefined {
    const server = this.servers.find(({ subjects }) => subjects.includes(subject))
    return server?.name.endsWith('sandboxerd') ? server.cri() : undefined
  }

  get servers(): readonly Server[] {
    return [this.sandboxerd, ...this.peers]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.floor.clear()
    for (const server of this.servers) await server[Symbol.asyncDispose]()
  }
}

/** The runtime spec of a pause container, for the floor to start the very same. */
async function pauseSpec({ subjects: [shim], cri }: Server): Promise<unknown> {
  if (!shim) throw new Error('sandboxerd has no handler shim')
  const id = await shim.up('spec', false)
  const { runtimeSpec } = await cri().podInfo(id)
  await shim.stop(id)
  await shim.remove(id)
  return runtimeSpec
}

async function measureLoads(
  rig: Rig,
  network: NetworkMode,
  options: BenchOptions,
  results: Results,
  signal: AbortSignal,
): Promise<void> {
  const subjects = [rig.floor, ...rig.servers.flatMap((server) => server.subjects)]
  const hostNetwork = network === 'host'
  const noSteps = (): undefined => undefined
  await load(
    subjects,
    { rounds: WARM_UP_ROUNDS, concurrency: 1, hostNetwork, prefix: `warm-${network}`, signal },
    noSteps,
  )
  for (const concurrency of options.concurrencies) {
    // About as many pods at a time as rounds: enough to see, and it ends.
    const rounds = Math.max(3, Math.round(options.rounds / concurrency ** 0.8))
    rig.floor.takeTimings()
    const times = await load(
      subjects,
      { rounds, concurrency, hostNetwork, prefix: `${network}-${concurrency}`, signal },
      (subject) => (concurrency === 1 ? rig.steps(subject) : undefined),
    )
    const result = { network, concurrency, times, floorParts: rig.floor.takeTimings() }
    results.loads.push(result)
    show(report.loadTable(result))
    if (concurrency === 1) show(report.partsTable(result))
  }
}

async function measureRest(rig: Rig, options: BenchOptions, results: Results): Promise<void> {
  for (const subject of rig.servers.flatMap((server) => server.subjects)) {
    results.memory.push(await measureMemory(subject, MEMORY_PODS, 'memory'))
  }
  show(report.memoryTable(results.memory))
  if (options.reads) {
    for (const server of rig.servers.filter(({ name }) => name.endsWith('sandboxerd'))) {
      const reads = await measureReads(server, READ_ROUNDS)
      results.reads.push(reads)
      show(report.readsTable(reads))
    }
  }
  if (options.killedWith.length === 0) return
  const rssKib = (pid: number): number => procNumber(pid, 'status', 'VmRSS')
  for (const server of rig.servers) {
    results.recovery.push(...(await measureRecovery(server, options.killedWith, KILL_ROUNDS, rssKib)))
  }
  show(report.recoveryTable(results.recovery))
}

async function measureWorkloads(
  rig: Rig,
  options: BenchOptions,
  machine: Machine,
  results: Results,
  signal: AbortSignal,
): Promise<void> {
  await using registry = await startRegistry()
  machine.allowRegistry(registry.address)
  const { ref } = await pushImage(registry, { name: 'bench/busybox' })
  if (options.containers) {
    const measured = await measureContainers(rig.servers, ref, options, machine, signal)
    results.containers.push(measured)
    show(containerTables(measured))
  }
  if (options.streaming) {
    const measured = await measureStreaming(rig.servers, ref, options, machine, signal)
    results.streaming.push(measured)
    show(streamingTables(measured))
  }
}

async function bench(options: BenchOptions, signal: AbortSignal): Promise<void> {
  const programs = [options.runtime, options.conmon, options.containerd].filter((program) => program !== '')
  const at = new Date().toISOString()
  const results: Results = {
    machine: await describeMachine(programs),
    at,
    loads: [],
    memory: [],
    reads: [],
    recovery: [],
    containers: [],
    streaming: [],
    sandboxer: [],
  }
  show(results.machine.join('\n'))
  {
    await using machine = new Machine()
    const plain = options.networks.filter((network) => network !== 'masq')
    if (options.sandboxer) {
      await using registry = await startRegistry()
      machine.allowRegistry(registry.address)
      const { ref } = await pushImage(registry, { name: 'bench/busybox' })
      const measured = await measureSandboxer(ref, options, machine, signal)
      results.sandboxer.push(measured)
      show(sandboxerTables(measured))
    } else if (plain.length > 0) {
      await using rig = await Rig.start(options, machine, false)
      if (options.pods) {
        for (const network of plain) await measureLoads(rig, network, options, results, signal)
        signal.throwIfAborted()
        await measureRest(rig, options, results)
      }
      if (options.containers || options.streaming) await measureWorkloads(rig, options, machine, results, signal)
    }
    if (options.pods && options.networks.includes('masq')) {
      await using rig = await Rig.start(options, machine, true)
      await measureLoads(rig, 'masq', options, results, signal)
    }
  }
  const verdicts = [
    ...report.verdicts(results.loads),
    ...results.reads.flatMap(report.readVerdicts),
    ...results.containers.flatMap(containerVerdicts),
    ...results.streaming.flatMap(streamingVerdicts),
    ...results.sandboxer.flatMap(sandboxerVerdicts),
  ]
  show(report.verdictTable(verdicts))
  if (options.jsonFile !== '') writeFileSync(options.jsonFile, toJson({ ...results, verdicts }))
}

function show(text: string): void {
  console.log(`${text}\n`)
}

function toJson(value: unknown): string {
  const plain = (_: string, part: unknown): unknown =>
    part instanceof Map ? Object.fromEntries(part as Map<string, unknown>) : part
  return `${JSON.stringify(value, plain, 1)}\n`
}

const options = parseOptions(process.argv.slice(2), process.env, findOnPath)
if (options) {
  const interrupt = new AbortController()
  process.on('SIGINT', () => interrupt.abort(new Error('interrupted')))
  try {
    await bench(options, interrupt.signal)
  } catch (error) {
    console.error(`bench: ${error instanceof Error ? error.message : String(error)}`)
    process.exitCode = 1
  }
} else console.log(USAGE)
