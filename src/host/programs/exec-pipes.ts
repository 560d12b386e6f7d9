import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Descriptors } from '../descriptors.ts'
import type { Libc } from '../libc.ts'
import { PipeInput } from './pipe-input.ts'
import { PipeOutput } from './pipe-output.ts'

/** A command's pipes, of which we have the other ends. */
export interface ExecPipes extends Disposable {
  /** The command's ends, to be closed by whoever gives them to it. */
  readonly fds: readonly number[]
  readonly stdin: PipeInput | null
  readonly stdout: PipeOutput
  /** Held back. */
  readonly stderr: PipeOutput
}

/**
 * @param withStdin without it the command finds an input that has ended.
 * @param onStderr calls back when there is something on `stderr`.
 */
export function openExecPipes(
  deps: { readonly libc: Libc; readonly descriptors: Descriptors },
  withStdin: boolean,
  onStderr: () => void,
): ExecPipes {
  const pipes: (readonly [number, number])[] = []
  try {
    for (let count = 0; count < 3; count++) pipes.push(deps.libc.pipe())
  } catch (error) {
    for (const fd of pipes.flat()) closeSync(fd)
    throw error
  }
  const [[stdinRead, stdinWrite], [stdoutRead, stdoutWrite], [stderrRead, stderrWrite]] = pipes as [Pipe, Pipe, Pipe]
  const socket = withStdin ? new Socket({ fd: stdinWrite, readable: false, writable: true }) : null
  if (!socket) closeSync(stdinWrite)
  const stdout = new PipeOutput(stdoutRead, deps)
  const stderr = new PipeOutput(stderrRead, deps, onStderr)
  return {
    fds: [stdinRead, stdoutWrite, stderrWrite],
    stdin: socket && new PipeInput(socket),
    stdout,
    stderr,
    [Symbol.dispose]: () => {
      socket?.destroy()
      stdout.destroy()
      stderr.destroy()
    },
  }
}

type Pipe = readonly [number, number]
