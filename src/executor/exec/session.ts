import { addAbortListener } from 'node:events'
import { access } from 'node:fs/promises'
import { abortReason, sleep } from '../../core/deadline.ts'
import { CodedError } from '../../core/errors.ts'
import type { ExecProgram, ExecStatus } from '../../host/programs/exec-program.ts'
import type { Programs } from '../../host/programs/programs.ts'
import type { ProcessStreams, StreamsWanted } from '../types.ts'

/** Between two looks whether the command runs. */
const MAX_LOOK_MS = 50

/** A command that is to be started for a client. */
export interface StreamedCommand {
  /** For messages. */
  readonly what: string
  readonly program: ExecProgram
  readonly wanted: StreamsWanted
  /** Why it could not be started, by what the runtime said. */
  readonly explain: (exitCode: number, stderr: Buffer) => Promise<Error>
  /** Held while it is being started, or until it is known that it was. */
  readonly slot: Disposable
}

/** The streams of a command, as its session deals with them. */
export interface SessionStreams extends Pick<ProcessStreams, 'stdin' | 'stdout' | 'stderr' | 'resize'> {
  /** What the runtime said of a command that it could not start. */
  said(): Buffer
  /** The command has ended: so do its outputs, after what is there of them. */
  finish(): void
  /** Drops what there is. */
  close(): void
}

/** The life of a command: it ends by itself, with its client's signal, or when it is given up. */
export class Session {
  readonly #command: StreamedCommand
  readonly #controller = new AbortController()
  readonly #tie: Disposable
  readonly #status: Promise<ExecStatus>
  #isOver = false

  /**
   * Starts it.
   * @param fds see `StreamedExecProgram`. @param terminal see `Programs.stream`.
   */
  constructor(
    command: StreamedCommand,
    start: { readonly fds: readonly (number | null)[]; readonly terminal?: Promise<string | undefined> },
    deps: { readonly programs: Programs },
    signal: AbortSignal,
  ) {
    this.#command = command
    this.#tie = addAbortListener(signal, () => this.abort(abortReason(signal)))
    const program = { ...command.program, fds: start.fds }
    this.#status = deps.programs.stream(program, this.#controller.signal, start.terminal).finally(() => {
      this.#isOver = true
      this.#tie[Symbol.dispose]()
      command.slot[Symbol.dispose]()
    })
    // Whoever is interested asks.
    this.#status.catch(() => undefined)
  }

  /** Kills the command with all its processes. */
  abort(reason: unknown): void {
    this.#controller.abort(reason)
  }

  /** Resolves when it is over, in whatever way. */
  async over(): Promise<void> {
    await this.#status.catch(() => undefined)
  }

  /** Resolves when the command runs or has run; false: it could not be started, or was killed. */
  async isStarted(): Promise<boolean> {
    const { pidPath } = this.#command.program
    for (let pause = 1; !this.#isOver; pause = Math.min(pause * 2, MAX_LOOK_MS)) {
      const isThere = await access(pidPath).then(
        () => true,
        () => false,
      )
      if (isThere) return true
      await sleep(pause)
    }
    return this.#status.then(
      ({ started }) => started,
      () => false,
    )
  }

  /** The streams for the client. */
  streams(streams: SessionStreams): ProcessStreams {
    const ended = this.#ended(streams)
    ended.catch(() => undefined)
    const { stdin, stdout, stderr } = streams
    return {
      stdin,
      stdout,
      stderr,
      resize: (size) => streams.resize(size),
      ended,
      [Symbol.asyncDispose]: async () => {
        this.abort(new CodedError('Canceled', `${this.#command.what}: given up`))
        // Not before: a terminal that hangs up would end the process by which all others are found.
        await ended.catch(() => undefined)
        streams.close()
      },
    }
  }

  async #ended(streams: SessionStreams): Promise<number> {
    const { started, exitCode } = await this.#status
    const said = started ? undefined : streams.said()
    streams.finish()
    if (said) throw await this.#command.explain(exitCode, said)
    return exitCode
  }
}
