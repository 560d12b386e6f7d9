import type { Logger } from 'pino'
import type { ControllerRegistry } from '../controller/registry.ts'
import { aborted, deadline } from '../core/deadline.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { Failpoints } from '../core/failpoints.ts'
import { nowNs } from '../core/now.ts'
import type { ExitStatus } from '../executor/types.ts'
import type { ControlledRecord, ControlledSandboxes } from './kinds/controlled.ts'
import { ledgerChange, type Releaser } from '../lifecycle/release.ts'
import { releaseChains } from './resources.ts'
import type { Sandbox } from './sandbox.ts'

export interface TeardownOptions {
  /** From the stop signal to SIGKILL. */
  readonly stopGraceMs: number
  /** For what comes on top of the grace period. */
  readonly releaseMs: number
}

export interface TeardownDeps {
  readonly registry: ControllerRegistry
  readonly controlled: ControlledSandboxes
  readonly releaser: Releaser
  readonly failpoints: Failpoints
  readonly logger: Logger
  /** Resolves when the end of the sandbox has been saved; at once when nobody watches it. */
  readonly exitSaved: (sandbox: Sandbox) => Promise<void>
}

/** From the end of a process to its exit status on record. */
const EXIT_SAVED_MS = 4000

/**
 * The way back: StopPodSandbox, RemovePodSandbox and the rollback of a RunPodSandbox that failed. Each can be called in
 * any state and any number of times; what could not be released stays in the ledger. One at a time for one sandbox.
 */
export class Teardown {
  readonly #options: TeardownOptions
  readonly #deps: TeardownDeps

  constructor(options: TeardownOptions, deps: TeardownDeps) {
    this.#options = options
    this.#deps = deps
  }

  /**
   * Ends the sandbox's processes, then gives back what it holds only while it runs. What is served stays until it is
   * removed: its front end may have to speak with its Task service yet.
   * @throws CodedError when a process could not be ended. What else could not be released is owed, and no error.
   */
  async stop(sandbox: Sandbox, graceMs?: number): Promise<void> {
    await this.#end(sandbox, graceMs)
    await this.#deps.failpoints.hit('stop.ended')
    if (sandbox.metadata.served) return
    const release = await this.#deps.releaser.release(sandbox.entries, releaseChains({ keepNetnsForCni: true }))
    await this.#deps.failpoints.hit('stop.released')
    await sandbox.note(ledgerChange(release))
  }

  /**
   * Stops the sandbox and gives back all of it. Returns whether nothing is left of it; otherwise the rest is owed.
   * @throws CodedError when a process could not be ended.
   */
  async remove(sandbox: Sandbox): Promise<boolean> {
    await this.#end(sandbox)
    if (sandbox.status.state !== 'REMOVING') {
      await sandbox.note({
        status: (current) => ({ ...current, state: 'REMOVING' }),
        log: { why: 'its removal has begun' },
      })
    }
    await this.#deps.failpoints.hit('remove.marked')
    return this.#releaseAll(sandbox)
  }

  /** Takes back a sandbox whose creation did not end well, and why. Returns whether nothing is left of it. */
  async rollback(sandbox: Sandbox, why: string): Promise<boolean> {
    try {
      // Nobody has seen it run: it is not waited for.
      await this.#end(sandbox, 0)
    } catch (error) {
      this.#deps.logger.error({ sandboxId: sandbox.id, error: errorMessage(error) }, 'sandbox cannot be ended')
    }
    if (await this.#releaseAll(sandbox)) return true
    // Somebody has to see it, to stop and remove it; but no front end comes for one that it was not given.
    const state = sandbox.metadata.served ? 'REMOVING' : 'STOPPED'
    await sandbox.note({ status: (current) => ({ ...current, state, visible: true, failure: why }), log: { why } })
    return false
  }

  async #releaseAll(sandbox: Sandbox): Promise<boolean> {
    const release = await this.#deps.releaser.releaseAll(sandbox.entries, releaseChains({ keepNetnsForCni: false }))
    await this.#deps.failpoints.hit('remove.released')
    if (release.released.length === sandbox.entries.length) {
      try {
        await sandbox.delete()
        return true
      } catch (error) {
        this.#deps.logger.error({ sandboxId: sandbox.id, error: errorMessage(error) }, 'sandbox cannot be deleted')
      }
    }
    await sandbox.note(ledgerChange(release))
    return false
  }

  /** Ends the processes; the sandbox is STOPPED afterwards, with its exit status on record. */
  async #end(sandbox: Sandbox, longestGraceMs = this.#options.stopGraceMs): Promise<void> {
    const { state, process, phase } = sandbox.status
    // What waits to be started does not listen to signals.
    const graceMs = phase === 'created' ? 0 : longestGraceMs
    const entry = sandbox.entries.find(({ kind }) => kind === 'controller')
    let hasNoProcess = process === null
    // What a front end runs in it may be there when its first process has ended.
    const mayRun = state !== 'STOPPED' || sandbox.metadata.served !== undefined
    if (entry && mayRun && state !== 'REMOVING') {
      const controlled = this.#parse(entry.record, sandbox)
      // What somebody else runs, or nobody knows how it was run, may have had one.
      hasNoProcess &&= controlled !== null && !this.#deps.registry.get(controlled.sandboxer).remote
      if (controlled) {
        using budget = deadline(`stop sandbox ${sandbox.id}`, graceMs + this.#options.releaseMs)
        const controller = this.#deps.registry.get(controlled.sandboxer)
        await controller.stop(controlled.record, process, graceMs, budget.signal)
        using patience = deadline(`exit status of ${sandbox.id}`, EXIT_SAVED_MS)
        await Promise.race([this.#deps.exitSaved(sandbox), aborted(patience.signal)])
      }
    }
    await sandbox.note({
      status: (current) =>
        current.state === 'STOPPED' || current.state === 'REMOVING'
          ? current
          : { ...current, state: 'STOPPED', exit: current.exit ?? endedNow(hasNoProcess) },
      log: { why: 'it was ended' },
    })
  }

  /** A record that cannot be read says of no process that it runs; the release names what is wrong with it. */
  #parse(record: unknown, sandbox: Sandbox): ControlledRecord | null {
    try {
      return this.#deps.controlled.parse(record)
    } catch (error) {
      if (error instanceof CodedError) {
        this.#deps.logger.error(
          { sandboxId: sandbox.id, error: errorMessage(error) },
          'controller record cannot be read',
        )
        return null
      }
      throw error
    }
  }
}

/** A sandbox without a process ends when it is told to. */
function endedNow(hadNoProcess: boolean): ExitStatus {
  const atNs = nowNs()
  return hadNoProcess ? { code: 0, atNs, reason: 'Exited' } : { code: 255, atNs, reason: 'Unknown' }
}
