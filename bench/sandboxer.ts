import { setTimeout as sleep } from 'node:timers/promises'
import { containerdDir, startContainerd } from './containerd.ts'
import { measureCycles } from './containers.ts'
import { settled } from './load.ts'
import type { Machine } from './machine.ts'
import type { BenchOptions } from './options.ts'
import { sandboxerdDir, sandboxerSocket, startSandboxerd } from './sandboxerd.ts'
import type { Server } from './server.ts'
import { type Summary, summary } from './stats.ts'
import { criWorkload, type Workload } from './workload.ts'

const WARM_UP_ROUNDS = 3
/** Pods on the sandboxer that answers nobody. */
const HELD_PODS = 8
const READ_MS = 1500
const PAUSE_MS = 5

/** The times of one subject, in milliseconds, pod by pod: each with one container, from nothing to nothing. */
export interface WholePodTimes {
  readonly run: number[]
  readonly create: number[]
  readonly start: number[]
  /** Run + create + start. */
  readonly up: number[]
  readonly exec: number[]
  /** Stop and remove the container, stop and remove the pod. */
  readonly down: number[]
  readonly whole: number[]
}

/** A comparison: the second subject is measured against the first; more are for information. */
export interface Comparison {
  readonly what: string
  readonly target: number
  readonly times: ReadonlyMap<string, WholePodTimes>
  /** Whole pods with a container a second, eight at a time. */
  readonly rates: ReadonlyMap<string, number>
}

/** The calls about other pods, while the sandboxer of some pods answers and while it does not. */
export interface SilentSandboxer {
  readonly answering: ReadonlyMap<string, Summary>
  readonly silent: ReadonlyMap<string, Summary>
}

export interface SandboxerResults {
  readonly comparisons: readonly Comparison[]
  readonly silent: SilentSandboxer
}

/** @param image one that a registry of {@link Machine.allowRegistry} has. */
export async function measureSandboxer(
  image: string,
  options: BenchOptions,
  machine: Machine,
  signal: AbortSignal,
): Promise<SandboxerResults> {
  const comparisons: Comparison[] = []
  if (options.containerd !== '') comparisons.push(await behindContainerd(image, options, machine, signal))
  const network = machine.network(false)
  await using remote = await startSandboxerd(options, machine, network)
  const socket = sandboxerSocket(sandboxerdDir(machine, network))
  await using front = await startSandboxerd(options, machine, machine.network(false), { remote: socket })
  const workloads = await workloadsOf(front, ['shim', 'remote', 'shim-v2'], image, machine)
  comparisons.push(await compare('through our CRI', 1.3, workloads, options, signal))
  const silent = await measureSilent(front, remote, image, options, machine, signal)
  return { comparisons, silent }
}

/** containerd with its own pause sandboxes, and with those of sandboxerd. */
async function behindContainerd(
  image: string,
  options: BenchOptions,
  machine: Machine,
  signal: AbortSignal,
): Promise<Comparison> {
  const network = machine.network(false)
  const containerdNetwork = machine.network(false)
  const dir = containerdDir(machine, containerdNetwork)
  const sandboxer = {
    events_address: `${dir}/containerd.sock.ttrpc`,
    front_end_root: `${dir}/root/io.containerd.grpc.v1.cri`,
    front_end_state: `${dir}/state/io.containerd.grpc.v1.cri`,
  }
  await using sandboxerd = await startSandboxerd(options, machine, network, { sandboxer })
  const socket = sandboxerSocket(sandboxerdDir(machine, network))
  await using containerd = await startContainerd(options, machine, containerdNetwork, socket)
  const workloads = await workloadsOf(containerd, ['containerd', 'containerd + sandboxerd'], image, machine)
  if (sandboxerd.daemon.hasEnded) throw new Error(`sandboxerd has ended: ${sandboxerd.daemon.logTail()}`)
  return await compare('through containerd', 1, workloads, options, signal)
}

async function workloadsOf(
  server: Server,
  names: readonly string[],
  image: string,
  machine: Machine,
): Promise<Workload[]> {
  const cri = server.cri()
  await cri.pull(image)
  return names.map((name) => {
    const subject = server.subjects.find((of) => of.name === name)
    if (!subject) throw new Error(`${server.name} has no subject ${name}`)
    return criWorkload({ pidPerContainer: subject.pidPerContainer, image }, { subject, cri, machine })
  })
}

/** All in turns, one pod at a time; then many at a time. */
async function compare(
  what: string,
  target: number,
  workloads: readonly Workload[],
  options: BenchOptions,
  signal: AbortSignal,
): Promise<Comparison> {
  const times = new Map<string, WholePodTimes>()
  for (let round = -WARM_UP_ROUNDS; round < options.rounds; round++) {
    if (round === 0) for (const { name } of workloads) times.set(name, noTimes())
    for (let turn = 0; turn < workloads.length; turn++) {
      signal.throwIfAborted()
      const workload = workloads[(Math.abs(round) + turn) % workloads.length]
      if (workload)
        await wholePod(workload, `whole-${turn}-${round + WARM_UP_ROUNDS}`, times.get(workload.name) ?? noTimes())
    }
  }
  const rates = new Map<string, number>()
  for (const workload of workloads) {
    signal.throwIfAborted()
    rates.set(workload.name, (await measureCycles(workload, false, options.cycles)).perSecond)
  }
  return { what, target, times, rates }
}

async function wholePod(workload: Workload, name: string, times: WholePodTimes): Promise<void> {
  const { subject } = workload
  const step = async <T>(into: number[], work: () => Promise<T>): Promise<T> => {
    const began = performance.now()
    const result = await work()
    into.push(performance.now() - began)
    return result
  }
  const began = performance.now()
  const pod = await step(times.run, () => subject.up(name, false))
  const id = await step(times.create, () => workload.create(pod, name, false))
  await step(times.start, () => workload.start(id))
  const upMs = performance.now() - began
  times.up.push(upMs)
  await step(times.exec, () => workload.exec(id))
  const before = performance.now()
  await workload.stop(id)
  await workload.remove(id)
  await subject.stop(pod)
  await subject.remove(pod)
  const downMs = performance.now() - before
  times.down.push(downMs)
  times.whole.push(upMs + downMs)
}

/**
 * Times the calls about other pods, in turns with the sandboxer of some pods answering and frozen (SIGSTOP): then it still
 * accepts connections, by the kernel, and never says a word. Its pods are asked about all the time.
 */
async function measureSilent(
  front: Server,
  remote: Server,
  image: string,
  options: BenchOptions,
  machine: Machine,
  signal: AbortSignal,
): Promise<SilentSandboxer> {
  const [shim, held] = await workloadsOf(front, ['shim', 'remote'], image, machine)
  if (!shim || !held) throw new Error('there are no two handlers to compare')
  const names = Array.from({ length: HELD_PODS }, (_, pod) => `held-${pod}`)
  const pods = await settled(names.map((name) => held.subject.up(name, false)))
  const other = await shim.subject.up('silent-other', false)
  const answering = new Map<string, number[]>()
  const silent = new Map<string, number[]>()
  const pid = remote.daemon.pid
  // As many rounds of each, and none of the two always first.
  const order = Array.from(
    { length: Math.max(2, Math.round(options.rounds / 4)) },
    (_, round) => round % 4 === 1 || round % 4 === 2,
  )
  try {
    for (const [round, isSilent] of [...order, ...order.map((was) => !was)].entries()) {
      signal.throwIfAborted()
      if (isSilent) process.kill(pid, 'SIGSTOP')
      await readsAndPods(front, shim, { pods, other, round }, isSilent ? silent : answering)
      process.kill(pid, 'SIGCONT')
    }
  } finally {
    process.kill(pid, 'SIGCONT')
  }
  await shim.subject.stop(other)
  await shim.subject.remove(other)
  await settled(pods.map((pod) => held.subject.stop(pod)))
  await settled(pods.map((pod) => held.subject.remove(pod)))
  const summaries = (times: ReadonlyMap<string, number[]>): Map<string, Summary> =>
    new Map([...times].map(([call, values]) => [call, summary(values)]))
  return { answering: summaries(answering), silent: summaries(silent) }
}

async function readsAndPods(
  front: Server,
  shim: Workload,
  { pods, other, round }: { pods: readonly string[]; other: string; round: number },
  times: Map<string, number[]>,
): Promise<void> {
  const cri = front.cri()
  const timed = async (call: string, work: () => Promise<unknown>): Promise<void> => {
    const began = performance.now()
    await work()
    const of = times.get(call) ?? []
    of.push(performance.now() - began)
    times.set(call, of)
  }
  const end = performance.now() + READ_MS
  const repeatedly = async (work: (turn: number) => Promise<void>): Promise<void> => {
    for (let turn = 0; performance.now() < end; turn++) {
      await work(turn)
      await sleep(PAUSE_MS)
    }
  }
  await settled([
    repeatedly(() => timed('ListPodSandbox', () => cri.list())),
    repeatedly(() => timed('PodSandboxStatus', () => cri.podStatus(other))),
    repeatedly((turn) => timed('PodSandboxStatus of a held pod', () => cri.podInfo(pods[turn % pods.length] ?? ''))),
    repeatedly(async (turn) => {
      const name = `silent-${round}-${turn}`
      const began = performance.now()
      const pod = await shim.subject.up(name, false)
      const id = await shim.create(pod, name, false)
      await shim.start(id)
      const of = times.get('pod + container') ?? []
      of.push(performance.now() - began)
      times.set('pod + container', of)
      await shim.stop(id)
      await shim.remove(id)
      await shim.subject.stop(pod)
      await shim.subject.remove(pod)
    }),
  ])
}

function noTimes(): WholePodTimes {
  return { run: [], create: [], start: [], up: [], exec: [], down: [], whole: [] }
}
