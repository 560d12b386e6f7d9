import { ContainerFloor } from './container-floor.ts'
import { settled } from './load.ts'
import type { Machine } from './machine.ts'
import type { BenchOptions } from './options.ts'
import { procNumber } from './process.ts'
import type { Server } from './server.ts'
import { criWorkload, type Workload } from './workload.ts'

const WARM_UP_ROUNDS = 3
const MEMORY_PODS = 16

/** The times of one subject, in milliseconds, container by container. */
export interface ContainerTimes {
  readonly create: number[]
  readonly start: number[]
  readonly up: number[]
  readonly exec: number[]
  readonly stop: number[]
  readonly remove: number[]
  readonly down: number[]
}

/** Whole pods with a container each, from RunPodSandbox to RemovePodSandbox. */
export interface Cycles {
  readonly subject: string
  readonly hostNetwork: boolean
  readonly concurrency: number
  readonly perSecond: number
}

export interface PodMemory {
  readonly subject: string
  /** Proportional set size of all processes of a pod with one container: pause, monitors, and the container's own. */
  readonly podKib: number
}

export interface ContainerResults {
  readonly times: ReadonlyMap<string, ContainerTimes>
  readonly cycles: readonly Cycles[]
  readonly memory: readonly PodMemory[]
}

type Calls = Pick<Workload, 'start' | 'exec' | 'stop' | 'remove'> & { create(): Promise<string> }

/** Containers of all subjects in turns, one at a time; then whole cycles, several at a time; then memory. */
export async function measureContainers(
  servers: readonly Server[],
  image: string,
  options: BenchOptions,
  machine: Machine,
  signal: AbortSignal,
): Promise<ContainerResults> {
  const workloads: Workload[] = []
  for (const server of servers) {
    await server.cri().pull(image)
    const deps = { cri: server.cri(), machine }
    for (const subject of server.subjects) {
      workloads.push(criWorkload({ pidPerContainer: subject.pidPerContainer, image }, { ...deps, subject }))
    }
  }
  const times = await containerTimes(workloads, servers, options, machine, signal)
  const cycles: Cycles[] = []
  for (const hostNetwork of [false, true]) {
    for (const workload of workloads) {
      signal.throwIfAborted()
      cycles.push(await measureCycles(workload, hostNetwork, options.cycles))
    }
  }
  const memory: PodMemory[] = []
  for (const workload of workloads) memory.push(await measurePodMemory(workload))
  return { times, cycles, memory }
}

async function containerTimes(
  workloads: readonly Workload[],
  servers: readonly Server[],
  options: BenchOptions,
  machine: Machine,
  signal: AbortSignal,
): Promise<Map<string, ContainerTimes>> {
  const pods = new Map<Workload, string>()
  const subjects = new Map<string, Calls>()
  for (const workload of workloads) {
    const podName = `containers-${workload.name}`
    const pod = await workload.subject.up(podName, false)
    pods.set(workload, pod)
    subjects.set(workload.name, { ...workload, create: () => workload.create(pod, podName, false) })
  }
  const floor = await floorOf(subjects, servers, options, machine)
  const times = new Map<string, ContainerTimes>()
  try {
    const all: [string, Calls][] = [['floor', floor], ...subjects]
    for (let round = -WARM_UP_ROUNDS; round < options.rounds; round++) {
      if (round === 0) for (const [name] of all) times.set(name, noTimes())
      for (let turn = 0; turn < all.length; turn++) {
        signal.throwIfAborted()
        const [name, calls] = all[(Math.abs(round) + turn) % all.length] ?? []
        if (name !== undefined && calls) await oneContainer(calls, times.get(name) ?? noTimes())
      }
    }
  } finally {
    await floor.clear()
    for (const [workload, pod] of pods) {
      await workload.subject.stop(pod)
      await workload.subject.remove(pod)
    }
  }
  return times
}

/** The floor takes the spec of a container of sandboxerd, in whose pod it runs. */
async function floorOf(
  subjects: ReadonlyMap<string, Calls>,
  [sandboxerd]: readonly Server[],
  options: BenchOptions,
  machine: Machine,
): Promise<ContainerFloor> {
  const model = subjects.get(sandboxerd?.subjects[0]?.name ?? '')
  if (!sandboxerd || !model) throw new Error('there is no sandboxerd to take the spec of a container from')
  const id = await model.create()
  const { runtimeSpec } = await sandboxerd.cri().containerInfo(id)
  const floor = await ContainerFloor.of(options, machine, runtimeSpec)
  await model.remove(id)
  return floor
}

async function oneContainer(calls: Calls, times: ContainerTimes): Promise<void> {
  const began = performance.now()
  const id = await calls.create()
  const created = performance.now()
  await calls.start(id)
  const started = performance.now()
  times.create.push(created - began)
  times.start.push(started - created)
  times.up.push(started - began)
  await calls.exec(id)
  times.exec.push(performance.now() - started)
  const before = performance.now()
  await calls.stop(id)
  const stopped = performance.now()
  await calls.remove(id)
  const removed = performance.now()
  times.stop.push(stopped - before)
  times.remove.push(removed - stopped)
  times.down.push(removed - before)
}

/** Whole pods with a container each, eight at a time. */
export async function measureCycles(workload: Workload, hostNetwork: boolean, cycles: number): Promise<Cycles> {
  const concurrency = 8
  const { subject } = workload
  let next = 0
  const worker = async (): Promise<void> => {
    for (let number = next++; number < cycles; number = next++) {
      const name = `cycle-${workload.name.replaceAll(/\W+/g, '-')}-${hostNetwork ? 'h' : 'b'}-${number}`
      const pod = await subject.up(name, hostNetwork)
      const id = await workload.create(pod, name, hostNetwork)
      await workload.start(id)
      // It has only just been started.
      await workload.kill(id)
      await workload.remove(id)
      await subject.stop(pod)
      await subject.remove(pod)
    }
  }
  const began = performance.now()
  await settled(Array.from({ length: concurrency }, worker))
  const perSecond = (1000 * cycles) / (performance.now() - began)
  return { subject: workload.name, hostNetwork, concurrency, perSecond }
}

async function measurePodMemory(workload: Workload): Promise<PodMemory> {
  const { subject } = workload
  const names = Array.from({ length: MEMORY_PODS }, (_, number) => `pod-memory-${workload.name}-${number}`)
  const pids = new Set<number>()
  const pods: string[] = []
  for (const name of names) {
    const pod = await subject.up(name, false)
    pods.push(pod)
    const id = await workload.create(pod, name, false)
    await workload.start(id)
    for (const pid of [...(await subject.pids(pod)), ...(await workload.pids(id))]) pids.add(pid)
  }
  const kib = [...pids].reduce((sum, pid) => sum + procNumber(pid, 'smaps_rollup', 'Pss'), 0)
  for (const pod of pods) {
    await subject.stop(pod)
    await subject.remove(pod)
  }
  return { subject: workload.name, podKib: kib / MEMORY_PODS }
}

function noTimes(): ContainerTimes {
  return { create: [], start: [], up: [], exec: [], stop: [], remove: [], down: [] }
}
