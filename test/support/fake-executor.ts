import { CodedError } from '../../src/core/errors.ts'
import type { ExecutedRecord, Executor, ExitStatus, ProcessStreams } from '../../src/executor/types.ts'
import type { ProcessIdentity } from '../../src/host/process.ts'

/** A process that this node does not see. */
export const UNSEEN: ProcessIdentity = { pid: 7, startTime: '', bootId: 'boot' }

/** An executor of one container, whose state a test sets. While it is unreachable, it answers nothing. */
export class FakeExecutor<R extends ExecutedRecord = ExecutedRecord> implements Executor<R> {
  process: ProcessIdentity | null = UNSEEN
  startedNs: bigint | null = null
  exit: ExitStatus | null = null
  oom = false
  isReachable = true
  /** What was asked of it, in order. */
  readonly calls: string[] = []
  readonly #ends = new Set<() => void>()

  /** Its process ends. */
  end(exit: ExitStatus): void {
    this.exit = exit
    this.process = null
    for (const end of this.#ends) end()
  }

  adopt(): void {
    this.calls.push('adopt')
  }

  async prepareLog(): Promise<string> {
    this.calls.push('prepareLog')
    return ''
  }

  async create(): Promise<ProcessIdentity> {
    this.#ask('create')
    return UNSEEN
  }

  async start(): Promise<void> {
    this.#ask('start')
    this.startedNs = 1n
  }

  async startedAtNs(): Promise<bigint | null> {
    this.#ask('startedAtNs')
    return this.startedNs
  }

  async kill(_record: R, _process: ProcessIdentity, signalName: NodeJS.Signals | number): Promise<void> {
    this.#ask(`kill ${signalName}`)
    if (signalName === 'SIGKILL') this.end({ code: 137, atNs: 5n, reason: 'Exited' })
  }

  async killAll(): Promise<void> {
    this.#ask('killAll')
  }

  async isAlive(): Promise<boolean> {
    this.#ask('isAlive')
    return this.process !== null
  }

  async findProcess(): Promise<ProcessIdentity | null> {
    this.#ask('findProcess')
    return this.process
  }

  async wait(): Promise<ExitStatus> {
    this.#ask('wait')
    if (!this.exit)
      await new Promise<void>((resolve) => {
        this.#ends.add(resolve)
      })
    if (this.exit) return this.exit
    throw new CodedError('Internal', 'no end')
  }

  async exitStatus(): Promise<ExitStatus | null> {
    this.#ask('exitStatus')
    return this.exit
  }

  async oomKilled(): Promise<boolean> {
    this.#ask('oomKilled')
    return this.oom
  }

  async execSync(): Promise<never> {
    throw new CodedError('Unimplemented', 'exec')
  }

  async exec(): Promise<ProcessStreams> {
    throw new CodedError('Unimplemented', 'exec')
  }

  async killLeftExecs(): Promise<void> {
    this.#ask('killLeftExecs')
  }

  async attach(): Promise<ProcessStreams> {
    throw new CodedError('Unimplemented', 'attach')
  }

  async reopenLog(): Promise<void> {
    this.#ask('reopenLog')
  }

  async update(): Promise<void> {
    this.#ask('update')
  }

  async delete(): Promise<void> {
    this.#ask('delete')
  }

  #ask(what: string): void {
    this.calls.push(what)
    if (!this.isReachable) throw new CodedError('Unavailable', `${what}: nobody answers`)
  }
}
