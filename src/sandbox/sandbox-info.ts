import type { ControllerRegistry } from '../controller/registry.ts'
import { waitFor } from '../core/deadline.ts'
import { errorMessage } from '../core/errors.ts'
import type { Sealer } from '../core/seal.ts'
import type { ControlledSandboxes } from './kinds/controlled.ts'
import type { SandboxRoots } from './paths.ts'
import type { Sandbox } from './sandbox.ts'
import type { SandboxInfo } from './types.ts'
import { verifyCheckpoint } from './verify.ts'

export interface InfoDeps {
  readonly roots: SandboxRoots
  readonly sealer: Sealer
  readonly registry: ControllerRegistry
  readonly controlled: ControlledSandboxes
}

/** Everything there is to know about one sandbox, for people. */
export async function sandboxInfo(sandbox: Sandbox, deps: InfoDeps, signal: AbortSignal): Promise<SandboxInfo> {
  const { metadata, status } = sandbox
  const [checkpoint, controller] = await waitFor(
    Promise.all([verifyCheckpoint(sandbox, deps.roots, deps.sealer), controllerInfo(sandbox, deps)]),
    signal,
  )
  return {
    id: metadata.id,
    name: metadata.name,
    state: status.state,
    pid: status.process?.pid ?? 0,
    process: status.process,
    exit: status.exit && { ...status.exit, atNs: status.exit.atNs.toString() },
    createdAtNs: metadata.createdAtNs.toString(),
    sandboxer: metadata.sandboxer,
    runtimeHandler: metadata.runtimeHandler,
    netMode: metadata.netMode,
    netnsPath: metadata.netnsPath,
    failure: status.failure,
    resources: status.resources ?? status.told ?? null,
    quarantined: sandbox.quarantined || checkpoint.problem,
    checkpoint: { path: checkpoint.path, hash: checkpoint.hash, valid: checkpoint.valid, problem: checkpoint.problem },
    cniResult: sandbox.networks,
    ledger: sandbox.entries.map(({ seq, kind, state, record }) => ({ seq, kind, state, record })),
    steps: status.steps,
    config: metadata.config,
    ...controller,
  }
}

async function controllerInfo(sandbox: Sandbox, deps: InfoDeps): Promise<SandboxInfo> {
  const entry = sandbox.entries.find(({ kind }) => kind === 'controller')
  if (!entry) return { runtimeSpec: null }
  try {
    const { sandboxer, record } = deps.controlled.parse(entry.record)
    return await deps.registry.get(sandboxer).info(record)
  } catch (error) {
    return { runtimeSpec: null, controllerProblem: errorMessage(error) }
  }
}
