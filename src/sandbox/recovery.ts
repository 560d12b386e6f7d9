import type { ControllerRegistry } from '../controller/registry.ts'
import { errorMessage } from '../core/errors.ts'
import type { Sealer } from '../core/seal.ts'
import { nowNs } from '../core/now.ts'
import type { ExitStatus } from '../executor/types.ts'
import type { ControlledSandboxes } from './kinds/controlled.ts'
import type { SandboxRoots } from './paths.ts'
import { RUNNING_KINDS } from './resources.ts'
import type { Sandbox } from './sandbox.ts'
import type { CheckpointData } from './status.ts'
import { verifyCheckpoint } from './verify.ts'

export interface RecoveryOptions {
  readonly roots: SandboxRoots
  readonly bootId: string
}

export interface RecoveryDeps {
  readonly sealer: Sealer
  readonly registry: ControllerRegistry
  readonly controlled: ControlledSandboxes
}

/** What is to be done about a sandbox once it is known how it is. */
export type Verdict =
  /** It runs, or is somebody else's: watch for its end. */
  | 'watch'
  /** It does not run, and nothing is owed before somebody stops or removes it. */
  | 'leave'
  /** Its stop has begun and is not done, or it ended with an earlier boot: go on with it. */
  | 'stop'
  /** Its RunPodSandbox never ended: take it back. */
  | 'rollback'
  /** Its removal has begun: go on with it. */
  | 'remove'

/**
 * Finds out how a sandbox is after a restart. What cannot be found out changes nothing: the sandbox is shown as not
 * ready, and Stop and Remove clear it up.
 */
export class Recovery {
  readonly #options: RecoveryOptions
  readonly #deps: RecoveryDeps

  constructor(options: RecoveryOptions, deps: RecoveryDeps) {
    this.#options = options
    this.#deps = deps
  }

  /** Before any sandbox is touched: lets the controllers know what is on record. */
  adopt(sandbox: Sandbox): void {
    for (const { kind, record } of sandbox.entries) {
      if (kind !== 'controller') continue
      try {
        const controlled = this.#deps.controlled.parse(record)
        this.#deps.registry.get(controlled.sandboxer).adopt(controlled.record)
      } catch (error) {
        sandbox.quarantine(errorMessage(error))
      }
    }
  }

  async recover(sandbox: Sandbox): Promise<Verdict> {
    if (!sandbox.status.visible) return 'rollback'
    if (sandbox.status.state === 'REMOVING') return 'remove'
    // It may not be whole, and nothing of it runs: who starts it has it made again.
    const wasStarted = sandbox.status.phase !== 'created'
    if (wasStarted) await this.#verify(sandbox)
    if (this.#isOfEarlierBoot(sandbox)) return this.#rebooted(sandbox)
    if (sandbox.status.state === 'STOPPED') {
      return sandbox.entries.some(({ state }) => state === 'releasing') ? 'stop' : 'leave'
    }
    return wasStarted ? this.#observe(sandbox) : 'leave'
  }

  async #verify(sandbox: Sandbox): Promise<void> {
    const { valid, problem, data } = await verifyCheckpoint(sandbox, this.#options.roots, this.#deps.sealer)
    if (!valid) sandbox.quarantine(problem)
    if (sandbox.status.state === 'RUNNING' && data) await this.#restoreLedger(sandbox, data)
  }

  /** A running sandbox has all it was given; what its ledger lacks was taken out by somebody else. */
  async #restoreLedger(sandbox: Sandbox, data: CheckpointData): Promise<void> {
    const known = new Set(sandbox.entries.map(({ seq }) => seq))
    const missing = data.resources.flatMap(({ kind, record }, seq) =>
      known.has(seq) ? [] : [{ ownerId: sandbox.id, seq, kind, state: 'held' as const, record, bootId: data.bootId }],
    )
    if (missing.length === 0) return
    sandbox.quarantine(`ledger: ${missing.map(({ kind }) => kind).join(', ')} is missing`)
    await sandbox.note({ put: missing })
  }

  #isOfEarlierBoot(sandbox: Sandbox): boolean {
    const [entry] = sandbox.entries
    return entry !== undefined && entry.bootId !== this.#options.bootId
  }

  /** Processes and mounts went with the old boot; what plugins keep on disk is still owed. */
  async #rebooted(sandbox: Sandbox): Promise<Verdict> {
    const { state } = sandbox.status
    if (state !== 'STOPPED') await this.#ended(sandbox, { code: 255, atNs: nowNs(), reason: 'NodeReboot' })
    return sandbox.entries.some(({ kind }) => RUNNING_KINDS.includes(kind)) ? 'stop' : 'leave'
  }

  async #observe(sandbox: Sandbox): Promise<Verdict> {
    const entry = sandbox.entries.find(({ kind }) => kind === 'controller')
    if (!entry) return 'leave'
    try {
      const controlled = this.#deps.controlled.parse(entry.record)
      const controller = this.#deps.registry.get(controlled.sandboxer)
      // It may take long to answer, or not do so at all: who watches it finds out, and nobody waits for that here.
      if (controller.remote) return 'watch'
      const seen = await controller.status(controlled.record, sandbox.status.process)
      if (seen.state === 'running') {
        const { process } = seen
        await sandbox.note({
          status: (current) =>
            current.state === 'RUNNING' && current.process?.startTime === process?.startTime
              ? current
              : { ...current, state: 'RUNNING', process },
          log: { why: 'it was found running' },
        })
        return 'watch'
      }
      if (seen.state === 'stopped') {
        await this.#ended(sandbox, seen.exit ?? { code: 255, atNs: nowNs(), reason: 'Unknown' })
      }
    } catch (error) {
      sandbox.quarantine(`it cannot be observed: ${errorMessage(error)}`)
    }
    return 'leave'
  }

  async #ended(sandbox: Sandbox, exit: ExitStatus): Promise<void> {
    await sandbox.note({
      status: (current) => ({ ...current, state: 'STOPPED', exit }),
      log: { why: 'it ended while no daemon ran' },
    })
  }
}
