import { errorMessage } from '../../core/errors.ts'
import type { NotifySocket } from '../../host/systemd/sockets.ts'
import type { Logger } from '../../telemetry/logger.ts'

/** How often the state is looked at for its STATUS line. */
const STATUS_MS = 2000
/** The service manager is asked for more time so often, each time for so long. */
const EXTEND_EVERY_MS = 10_000
const EXTEND_BY_MS = 60_000
/** Nothing gets more time than this: what takes longer hangs. */
const EXTEND_LIMIT_MS = 30 * 60_000
const RETRY_MS = 100

export interface ServiceStateDeps {
  /** Undefined where no service manager wants to know. */
  readonly notify: NotifySocket | undefined
  readonly logger: Logger
}

/** Tells the service manager how we are, in the words of sd_notify(3). Waits for nothing, and fails nobody. */
export class ServiceState implements Disposable {
  readonly #notify: NotifySocket | undefined
  readonly #logger: Logger
  /** What the manager had no room for, in order: of each kind the newest, so that it stays short. */
  #unsent: string[] = []
  #retry: NodeJS.Timeout | undefined
  #follow: NodeJS.Timeout | undefined
  #extend: NodeJS.Timeout | undefined
  #status = ''
  #note = ''
  #sent = ''
  /** We have said that we serve, and not yet that we end. */
  #isReady = false
  #isBroken = false
  #pings = 0

  constructor({ notify, logger }: ServiceStateDeps) {
    this.#notify = notify
    this.#logger = logger
  }

  /** What `systemctl status` shows. */
  status(text: string): void {
    this.#status = text
    this.#tell()
  }

  /** What is shown behind the status, until there is another note; `''` for none. */
  note(text: string): void {
    this.#note = text
    this.#tell()
  }

  /** We serve. From now on `describe` is asked now and then for the status. */
  ready(describe: () => string): void {
    this.#isReady = true
    this.#send('READY=1')
    this.status(describe())
    this.#follow = setInterval(() => this.status(describe()), STATUS_MS).unref()
  }

  /** The event loop turns. */
  ping(): void {
    this.#send('WATCHDOG=1')
    this.#pings++
  }

  /** How many signs of life there were. */
  get pings(): number {
    return this.#pings
  }

  /** We end, which may take so long. */
  stopping(limitMs: number): void {
    this.#isReady = false
    for (const timer of [this.#follow, this.#extend]) clearInterval(timer)
    this.#send(`STOPPING=1\nEXTEND_TIMEOUT_USEC=${limitMs * 1000}`)
    this.status('stopping; pods go on')
  }

  /**
   * Reads the configuration again; we go on serving meanwhile. Nothing is told of a reload before we serve, since its end
   * would say that we do, nor of one once we end.
   */
  async reloading<T>(work: () => Promise<T>): Promise<T> {
    if (!this.#isReady) return work()
    // CLOCK_MONOTONIC, by which the manager tells this reload from an earlier one.
    this.#send(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`)
    try {
      return await work()
    } finally {
      if (this.#isReady) this.#send('READY=1')
    }
  }

  /** Does what may take long, and asks for the time; without end only for what is under half an hour. */
  async takingLong<T>(status: string, work: () => Promise<T>): Promise<T> {
    this.status(status)
    const end = performance.now() + EXTEND_LIMIT_MS
    const extend = (): void => {
      if (performance.now() < end) this.#send(`EXTEND_TIMEOUT_USEC=${EXTEND_BY_MS * 1000}`)
    }
    extend()
    this.#extend = setInterval(extend, EXTEND_EVERY_MS).unref()
    try {
      return await work()
    } finally {
      clearInterval(this.#extend)
    }
  }

  [Symbol.dispose](): void {
    for (const timer of [this.#follow, this.#extend, this.#retry]) clearTimeout(timer)
    this.#notify?.[Symbol.dispose]()
  }

  #tell(): void {
    const text = [this.#status, this.#note].filter(Boolean).join('; ').replaceAll(/\s+/g, ' ')
    if (text === this.#sent) return
    this.#sent = text
    this.#send(`STATUS=${text}`)
  }

  #send(message: string): void {
    if (this.#unsent.length === 0 && this.#trySend(message)) return
    this.#unsent = [...this.#unsent.filter((older) => variableOf(older) !== variableOf(message)), message]
    this.#retry ??= setInterval(() => this.#sendAgain(), RETRY_MS).unref()
  }

  #sendAgain(): void {
    const failed = this.#unsent.findIndex((message) => !this.#trySend(message))
    this.#unsent = failed === -1 ? [] : this.#unsent.slice(failed)
    if (this.#unsent.length > 0) return
    clearInterval(this.#retry)
    this.#retry = undefined
  }

  /** False when there was no room for it. */
  #trySend(message: string): boolean {
    try {
      return this.#notify?.send(message) ?? true
    } catch (error) {
      if (!this.#isBroken) this.#logger.warn({ error: errorMessage(error) }, 'the service manager cannot be told')
      this.#isBroken = true
      return true
    }
  }
}

/** `STATUS` of `STATUS=2 pods run`. */
function variableOf(message: string): string {
  return message.slice(0, message.indexOf('='))
}
