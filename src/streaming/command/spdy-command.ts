import type { Readable, Writable } from 'node:stream'
import { deadline, waitFor } from '../../core/deadline.ts'
import { CodedError } from '../../core/errors.ts'
import type { TerminalSize } from '../../executor/types.ts'
import { finishCommand } from './finish-command.ts'
import type { SpdySession, SpdyStream } from '../spdy/types.ts'
import type { StatusFormat } from './status.ts'
import { TerminalSizes } from './terminal-sizes.ts'
import type { CommandRequest, Outcome, RemoteCommand } from '../types.ts'

type Role = 'error' | 'stdin' | 'stdout' | 'stderr' | 'resize'

const ROLES: readonly string[] = ['error', 'stdin', 'stdout', 'stderr', 'resize'] satisfies Role[]

/** What a client may have open at a time: a stream of each kind. */
export const COMMAND_STREAMS = ROLES.length

export interface SpdyCommandOptions {
  readonly request: CommandRequest
  readonly status: StatusFormat
  /** Whether the protocol has a stream for the size of the terminal. */
  readonly hasResize: boolean
  readonly streamCreationTimeoutMs: number
  /** Of the session as a whole. */
  readonly signal: AbortSignal
}

/** A remote command whose client opens a stream for each of its streams, and says in a header which is which. */
export class SpdyCommand implements RemoteCommand {
  readonly signal: AbortSignal
  readonly #session: SpdySession
  readonly #options: SpdyCommandOptions
  readonly #streams = new Map<Role, SpdyStream>()
  readonly #missing: Set<Role>
  readonly #complete: Promise<void>
  #sizes: TerminalSizes | undefined

  private constructor(session: SpdySession, options: SpdyCommandOptions) {
    this.signal = options.signal
    this.#session = session
    this.#options = options
    this.#missing = new Set(expected(options))
    this.#complete = new Promise((resolve) => {
      session.onStream((stream) => {
        this.#add(stream)
        if (this.#missing.size === 0) resolve()
      })
    })
  }

  /**
   * Waits until the client has opened all the streams that its request makes it open. Others are borne with, and not used:
   * whether there is a terminal, the client of an attach and the container may see differently.
   * @throws CodedError `DeadlineExceeded`, which the client is told where it has opened the stream for it.
   */
  static async open(session: SpdySession, options: SpdyCommandOptions): Promise<SpdyCommand> {
    const command = new SpdyCommand(session, options)
    using limit = deadline('wait for the streams of the client', options.streamCreationTimeoutMs, options.signal)
    try {
      await waitFor(command.#complete, limit.signal)
    } catch (error) {
      if (!session.signal.aborted) await command.finish({ error })
      throw error
    }
    return command
  }

  get stdin(): Readable | null {
    return this.#wanted('stdin')
  }

  get stdout(): Writable | null {
    return this.#wanted('stdout')
  }

  get stderr(): Writable | null {
    return this.#wanted('stderr')
  }

  onResize(listener: (size: TerminalSize) => void): void {
    this.#sizes?.onSize(listener)
  }

  async finish(outcome: Outcome): Promise<void> {
    const { status, signal } = this.#options
    const error = this.#streams.get('error') ?? null
    await finishCommand(this.#session, { outputs: [this.stdout, this.stderr], error, status, signal }, outcome)
  }

  #add(stream: SpdyStream): void {
    const role = stream.headers['streamtype'] ?? ''
    if (!isRole(role) || this.#streams.has(role)) {
      const why = `${JSON.stringify(role)} is none of ${ROLES.join(', ')}, or there already`
      this.#session.destroy(new CodedError('InvalidArgument', `open a stream: streamtype ${why}`))
      return
    }
    stream.reply()
    this.#streams.set(role, stream)
    if (!this.#missing.delete(role) || role === 'stdout' || role === 'stderr' || role === 'error') stream.resume()
    else if (role === 'resize') this.#sizes = new TerminalSizes(stream, (error) => this.#session.destroy(error))
  }

  #wanted(role: 'stdin' | 'stdout' | 'stderr'): SpdyStream | null {
    return this.#options.request[role] ? (this.#streams.get(role) ?? null) : null
  }
}

function expected({ request, hasResize }: SpdyCommandOptions): Role[] {
  const roles = (['stdin', 'stdout', 'stderr'] as const).filter((role) => request[role])
  return ['error', ...roles, ...(request.terminal && hasResize ? (['resize'] as const) : [])]
}

function isRole(text: string): text is Role {
  return ROLES.includes(text)
}
