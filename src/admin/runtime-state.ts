import type { ExecutedContainers } from '../container/kinds/executed.ts'
import type { ControllerRegistry } from '../controller/registry.ts'
import { deadline, waitFor } from '../core/deadline.ts'
import { errorMessage } from '../core/errors.ts'
import { isAlive, readBootId } from '../host/process.ts'
import type { ControlledSandboxes } from '../sandbox/kinds/controlled.ts'
import type { Found } from './find-owner.ts'
import type { ContainerFacts, SandboxFacts } from './pods.ts'

/** One question to whoever runs it. */
const ASK_MS = 3000

export interface RuntimeStateDeps {
  readonly registry: Pick<ControllerRegistry, 'get'>
  readonly controlled: Pick<ControlledSandboxes, 'parse'>
  readonly executed: Pick<ExecutedContainers, 'of' | 'probe'>
  /** The runtime spec and the like, of a container that the CRI shows. */
  readonly containerInfo: (id: string, signal: AbortSignal) => Promise<Readonly<Record<string, unknown>>>
}

export interface RuntimeState {
  readonly state: unknown
  /** What does not fit, or why nothing is known; `''` otherwise. */
  readonly problem: string
}

/** What the runtime, the shim or the remote sandboxer says of it now. Throws nothing but the reason of the signal. */
export async function runtimeState(found: Found, deps: RuntimeStateDeps, signal: AbortSignal): Promise<RuntimeState> {
  using limit = deadline('ask who runs it', ASK_MS, signal)
  try {
    const asked =
      found.kind === 'sandbox' ? askController(found.facts, deps) : askExecutor(found.facts, deps, limit.signal)
    return await waitFor(asked, limit.signal)
  } catch (error) {
    signal.throwIfAborted()
    return { state: null, problem: errorMessage(error) }
  }
}

/** The same without a daemon: only whether the process that is on record runs. */
export function recordedProcess({ facts: { status } }: Found): RuntimeState {
  const { process } = status
  if (!process) return { state: null, problem: '' }
  if (process.startTime === '') return { state: { process, runs: null }, problem: '' }
  const runs = isAlive(process, readBootId())
  const isMissing = status.state === 'RUNNING' && !runs
  return { state: { process, runs }, problem: isMissing ? `its process ${process.pid} does not run any more` : '' }
}

async function askController(
  { entries, status, metadata }: SandboxFacts,
  { registry, controlled }: RuntimeStateDeps,
): Promise<RuntimeState> {
  const entry = entries.find(({ kind }) => kind === 'controller')
  if (!entry) return { state: null, problem: '' }
  const { sandboxer, record } = controlled.parse(entry.record)
  const controller = registry.get(sandboxer)
  const [now, info] = await Promise.all([
    controller.status(record, status.process),
    controller.info(record).catch((error: unknown) => ({ problem: errorMessage(error) })),
  ])
  const isMissing = status.state === 'RUNNING' && now.state !== 'running'
  const problem = isMissing ? `sandboxer ${metadata.sandboxer} says that it is ${now.state}` : ''
  return { state: { sandboxer, status: now, info }, problem }
}

async function askExecutor(
  container: ContainerFacts,
  deps: RuntimeStateDeps,
  signal: AbortSignal,
): Promise<RuntimeState> {
  const record = deps.executed.of(container)
  if (!record) return { state: null, problem: '' }
  const [runs, info] = await Promise.all([
    deps.executed.probe(record),
    deps.containerInfo(container.metadata.id, signal).catch((error: unknown) => ({ problem: errorMessage(error) })),
  ])
  const isMissing = container.status.state === 'RUNNING' && !runs
  const { runtimeSpec = null, rootfs = null } = info as Readonly<Record<string, unknown>>
  const problem = isMissing ? 'whoever runs it says that it has no process' : ''
  return { state: { record, process: container.status.process, runs, rootfs, runtimeSpec }, problem }
}
