import type { Readable, Writable } from 'node:stream'
import type { TerminalSize } from '../../executor/types.ts'
import type { ChannelSession } from '../carrier.ts'
import { finishCommand } from './finish-command.ts'
import type { StatusFormat } from './status.ts'
import { TerminalSizes } from './terminal-sizes.ts'
import type { CommandRequest, Outcome, RemoteCommand } from '../types.ts'

/** The numbers of the channels. */
const CHANNELS = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const

export interface ChannelCommandOptions {
  readonly request: CommandRequest
  readonly status: StatusFormat
  /** Of the session as a whole. */
  readonly signal: AbortSignal
}

/** A remote command whose streams are numbered channels; what its request does not ask for is dropped. */
export class ChannelCommand implements RemoteCommand {
  readonly signal: AbortSignal
  readonly stdin: Readable | null
  readonly stdout: Writable | null
  readonly stderr: Writable | null
  readonly #session: ChannelSession
  readonly #status: StatusFormat
  readonly #error: Writable
  readonly #sizes: TerminalSizes | undefined

  constructor(session: ChannelSession, { request, status, signal }: ChannelCommandOptions) {
    this.signal = signal
    this.#session = session
    this.#status = status
    this.stdin = request.stdin ? session.reader(CHANNELS.stdin) : null
    this.stdout = request.stdout ? session.writer(CHANNELS.stdout) : null
    this.stderr = request.stderr ? session.writer(CHANNELS.stderr) : null
    this.#error = session.writer(CHANNELS.error)
    if (request.terminal) {
      this.#sizes = new TerminalSizes(session.reader(CHANNELS.resize), (error) => session.destroy(error))
    }
    // An empty message: what clients of Kubernetes take as the sign that the session has begun.
    const first = this.stdout ?? this.stderr ?? this.#error
    first.write(Buffer.alloc(0))
  }

  onResize(listener: (size: TerminalSize) => void): void {
    this.#sizes?.onSize(listener)
  }

  async finish(outcome: Outcome): Promise<void> {
    const { stdout, stderr, signal } = this
    const end = { outputs: [stdout, stderr], error: this.#error, status: this.#status, signal }
    await finishCommand(this.#session, end, outcome)
  }
}
