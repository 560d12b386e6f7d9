import { closeSync } from 'node:fs'
import { CodedError } from '../../core/errors.ts'
import type { Descriptors } from '../../host/descriptors.ts'
import { openExecPipes } from '../../host/programs/exec-pipes.ts'
import type { Libc } from '../../host/libc.ts'
import { PipeInput } from '../../host/programs/pipe-input.ts'
import { PipeOutput } from '../../host/programs/pipe-output.ts'
import type { Programs } from '../../host/programs/programs.ts'
import type { Relay, Terminal } from '../../host/relay/relay.ts'
import { Session, type SessionStreams, type StreamedCommand } from './session.ts'
import type { ProcessStreams, StreamsWanted } from '../types.ts'

export interface ExecDeps {
  readonly programs: Programs
  readonly libc: Libc
  readonly descriptors: Descriptors
  readonly relay: Relay
}

/** Starts a command on pipes. What the runtime itself has to say does not come to the client. */
export function startOnPipes(command: StreamedCommand, deps: ExecDeps, signal: AbortSignal): ProcessStreams {
  const { wanted } = command
  const release = async (): Promise<void> => {
    if (await session.isStarted()) stderr.release()
  }
  const pipes = openExecPipes(deps, wanted.stdin, () => void release())
  const { fds, stdin, stdout, stderr } = pipes
  const session = new Session(command, { fds }, deps, signal)
  if (!wanted.stdout) stdout.resume()
  if (!wanted.stderr) stderr.resume()
  return session.streams({
    stdin,
    stdout: wanted.stdout ? stdout : null,
    stderr: wanted.stderr ? stderr : null,
    resize: () => undefined,
    said: () => stderr.takeHeld(),
    finish: () => {
      stdin?.destroy()
      for (const output of [stdout, stderr]) output.finish()
      stderr.release()
    },
    close: () => pipes[Symbol.dispose](),
  })
}

/**
 * Starts a command on a terminal, which the runtime hands over.
 * @param socketPath where it does that.
 * @throws CodedError when the command cannot be started.
 */
export async function startOnTerminal(
  command: StreamedCommand,
  socketPath: string,
  deps: ExecDeps,
  signal: AbortSignal,
): Promise<ProcessStreams> {
  // Beside the terminal there is only what the runtime says.
  const [readEnd, writeEnd] = deps.libc.pipe()
  const stderr = new PipeOutput(readEnd, deps, () => undefined)
  const awaited = await deps.relay.awaitTerminal(socketPath).catch((error: unknown) => {
    closeSync(writeEnd)
    stderr.destroy()
    throw error
  })
  const device = awaited.terminal.then((terminal) => terminal?.device)
  const session = new Session(command, { fds: [null, null, writeEnd], terminal: device }, deps, signal)
  void session.over().then(() => awaited.stop())
  const terminal = await awaited.terminal.catch((error: unknown) => {
    session.abort(error)
    return null
  })
  // Before that it is the runtime that prints on the terminal, and it is not for the client to read.
  if (terminal && (await session.isStarted())) {
    command.slot[Symbol.dispose]()
    return session.streams(terminalStreams(terminal, command.wanted, stderr))
  }
  const nothing = { stdin: null, stdout: null, stderr: null, resize: () => undefined, finish: () => undefined }
  await using failed = session.streams({
    ...nothing,
    said: () => stderr.takeHeld(),
    close: () => {
      terminal?.socket.destroy()
      stderr.destroy()
    },
  })
  throw new CodedError('Internal', `${command.what}: no terminal, and exit code ${await failed.ended}`)
}

function terminalStreams(terminal: Terminal, wanted: StreamsWanted, stderr: PipeOutput): SessionStreams {
  const { socket } = terminal
  if (!wanted.stdout) socket.resume()
  return {
    stdin: wanted.stdin ? new PipeInput(socket) : null,
    stdout: wanted.stdout ? socket : null,
    stderr: null,
    resize: (size) => terminal.resize(size),
    said: () => stderr.takeHeld(),
    finish: () => terminal.finish(),
    close: () => {
      stderr.destroy()
      socket.destroy()
    },
  }
}
