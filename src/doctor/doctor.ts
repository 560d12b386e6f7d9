import type { Logger } from 'pino'
import { deadline, waitFor } from '../core/deadline.ts'
import { errorMessage } from '../core/errors.ts'

/** An operation may hang, and with it what it is that is to be found out. */
const TURN_MS = 30_000

/** One thing that is not as it should be, in one line. */
export interface Finding {
  /** What kind of thing: `orphan-netns`, `orphan-address`, `row-without-process`, `checkpoint-damaged`. */
  readonly kind: string
  /** The sandbox or container, where it is known. */
  readonly ownerId: string | null
  /** A path, an address, a pid. */
  readonly subject: string
  /** One sentence for people: what is wrong, and what `--fix` does about it. */
  readonly message: string
  /** What became of it: `found` without --fix. */
  readonly outcome: 'found' | 'fixed' | 'failed'
  /** Why it could not be fixed. */
  readonly problem: string | null
}

/** Something that looks wrong at first sight. */
export interface Suspicion extends Pick<Finding, 'kind' | 'ownerId' | 'subject' | 'message'> {
  /** Looks again, while nobody does anything with its owner: what was under way at the first look is no finding. */
  readonly isStill: () => Promise<boolean>
  /** Puts it right, while nobody does anything with its owner; or why nobody can. */
  readonly repair: ((signal: AbortSignal) => Promise<void>) | string
  /** What follows a repair, when others may do something with its owner again. @throws CodedError when it did not help. */
  readonly settle?: (() => Promise<void>) | undefined
}

/** One subject that is looked into. */
export interface Check {
  look(signal: AbortSignal): Promise<readonly Suspicion[]>
}

export interface DoctorDeps {
  /** In this order: what one repairs, the next does not find any more. */
  readonly checks: readonly Check[]
  /** Runs work on an owner when nothing else is done with it. */
  readonly alone: <T>(ownerId: string, work: () => Promise<T>) => Promise<T>
  readonly logger: Pick<Logger, 'info' | 'warn'>
}

/**
 * Finds what is on the machine and not on record, or the other way round, and puts it right when it is told to. What it
 * cannot prove to be ours it leaves alone. Examinations go one after the other.
 */
export class Doctor {
  readonly #options: { readonly repairMs: number; readonly turnMs?: number }
  readonly #deps: DoctorDeps
  #last: Promise<unknown> = Promise.resolve()

  /**
   * @param options.repairMs for one repair.
   * @param options.turnMs to wait for what else is done with an owner (30 s): then what was seen is told as it is.
   */
  constructor(options: { readonly repairMs: number; readonly turnMs?: number }, deps: DoctorDeps) {
    this.#options = options
    this.#deps = deps
  }

  /** A check that cannot be made is a finding, and keeps no other from being made. @throws the signal's reason. */
  async examine(fix: boolean, signal: AbortSignal): Promise<Finding[]> {
    const mine = this.#last.then(() => this.#examine(fix, signal))
    this.#last = mine.catch(() => undefined)
    return mine
  }

  async #examine(fix: boolean, signal: AbortSignal): Promise<Finding[]> {
    const findings: Finding[] = []
    for (const check of this.#deps.checks) {
      signal.throwIfAborted()
      try {
        for (const suspicion of await waitFor(check.look(signal), signal)) {
          const finding = await this.#follow(suspicion, fix, signal)
          if (finding) findings.push(finding)
        }
      } catch (error) {
        signal.throwIfAborted()
        findings.push(uncheckable(error))
      }
    }
    return findings
  }

  /** Null for what has turned out to be in order. */
  async #follow(suspicion: Suspicion, fix: boolean, signal: AbortSignal): Promise<Finding | null> {
    signal.throwIfAborted()
    const { kind, ownerId, subject, message, repair, settle } = suspicion
    const known = { kind, ownerId, subject, message }
    const alone = async <T>(work: () => Promise<T>): Promise<T> =>
      ownerId === null ? work() : this.#deps.alone(ownerId, work)
    using turn = deadline(`wait for what is under way with ${ownerId}`, this.#options.turnMs ?? TURN_MS, signal)
    const follow = async (): Promise<boolean> => {
      turn.signal.throwIfAborted()
      turn[Symbol.dispose]()
      if (!(await suspicion.isStill())) return false
      signal.throwIfAborted()
      if (fix && typeof repair !== 'string') await this.#repair(suspicion, repair, signal)
      return true
    }
    try {
      // Its turn may be long in coming: a stop has a grace period, and a large container takes hours to remove.
      const isThere = await waitFor(waitFor(alone(follow), turn.signal), signal)
      if (!isThere) return null
      if (!fix) return { ...known, outcome: 'found', problem: null }
      if (typeof repair === 'string') return { ...known, outcome: 'failed', problem: repair }
      if (settle) await this.#settle(suspicion, settle, signal)
      this.#deps.logger.info({ kind, id: ownerId, subject }, 'doctor: repaired')
      return { ...known, outcome: 'fixed', problem: null }
    } catch (error) {
      signal.throwIfAborted()
      const problem = errorMessage(error)
      this.#deps.logger.warn({ kind, id: ownerId, subject, error: problem }, 'doctor: cannot be repaired')
      return { ...known, outcome: fix ? 'failed' : 'found', problem }
    }
  }

  async #repair(
    { kind, subject }: Suspicion,
    repair: (signal: AbortSignal) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    using limit = deadline(`repair ${kind} ${subject}`, this.#options.repairMs, signal)
    await repair(limit.signal)
  }

  async #settle({ kind, subject }: Suspicion, settle: () => Promise<void>, signal: AbortSignal): Promise<void> {
    using limit = deadline(`look at ${kind} ${subject} again`, this.#options.repairMs, signal)
    await waitFor(settle(), limit.signal)
  }
}

function uncheckable(error: unknown): Finding {
  const problem = errorMessage(error)
  const message = 'this could not be looked into'
  return { kind: 'check-failed', ownerId: null, subject: problem, message, outcome: 'failed', problem }
}
