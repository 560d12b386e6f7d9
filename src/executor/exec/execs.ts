import { basename } from 'node:path'
import { CodedError } from '../../core/errors.ts'
import { toBuffer } from '../../core/thread.ts'
import type { ExecProgram } from '../../host/programs/exec-program.ts'
import { containerProcess, describe, processOf, timeLimit } from './command.ts'
import { type ExecDeps, startOnPipes, startOnTerminal } from './streams.ts'
import { type ExecFiles, execFiles } from './left-execs.ts'
import { runtimeMessage } from '../runtime-message.ts'
import { COMMAND_STARTS, StartSlots } from './start-slots.ts'
import type { ContainerRecord, ExecOutput, ExecRequest, ProcessStreams, StreamedExecRequest } from '../types.ts'

interface CommandProgram extends ExecProgram {
  /** Where the runtime hands the terminal over. */
  readonly socketPath?: string
}

/** Runs commands in containers. */
export class Execs {
  readonly #conmonPath: string
  readonly #deps: ExecDeps
  readonly #slots = new StartSlots(COMMAND_STARTS)
  #lastKey = 0

  constructor(options: { readonly conmonPath: string }, deps: ExecDeps) {
    this.#conmonPath = options.conmonPath
    this.#deps = deps
  }

  /** See `ConmonExecutor.execSync`. @throws CodedError `FailedPrecondition` when there is no bundle. */
  async run(
    record: ContainerRecord,
    request: ExecRequest,
    isRunning: () => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<ExecOutput> {
    const what = describe(record, request)
    using limit = timeLimit(what, request.timeoutMs, signal)
    using _slot = await this.#slots.take(limit.signal)
    const program = await this.#program(record, request.command, false)
    const { maxOutputBytes } = request
    const { started, exitCode, ...output } = await this.#deps.programs.exec(
      { ...program, maxOutputBytes },
      limit.signal,
    )
    const [stdout, stderr] = [toBuffer(output.stdout), toBuffer(output.stderr)]
    if (!started) throw await notStarted(what, { exitCode, stderr }, isRunning)
    return { exitCode, stdout, stderr }
  }

  /** See `ConmonExecutor.exec`. */
  async stream(
    record: ContainerRecord,
    request: StreamedExecRequest,
    isRunning: () => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<ProcessStreams> {
    const what = describe(record, request)
    const slot = await this.#slots.take(signal)
    try {
      const { socketPath, ...program } = await this.#program(record, request.command, request.terminal)
      const explain = (exitCode: number, stderr: Buffer): Promise<Error> =>
        notStarted(what, { exitCode, stderr }, isRunning)
      const command = { what, program, wanted: request, explain, slot }
      if (socketPath === undefined) return startOnPipes(command, this.#deps, signal)
      return await startOnTerminal(command, socketPath, this.#deps, signal)
    } catch (error) {
      slot[Symbol.dispose]()
      throw error
    }
  }

  async #program(record: ContainerRecord, command: readonly string[], terminal: boolean): Promise<CommandProgram> {
    const { bundleDir } = record
    const process = await containerProcess(record)
    const files = execFiles(bundleDir, ++this.#lastKey)
    return {
      // From the working directory: an absolute path can be too long for a socket's.
      ...this.#commandLine(record, files, terminal ? basename(files.socket) : undefined),
      cwd: bundleDir,
      input: { path: files.process, text: processOf(process, command, terminal) },
      pidPath: files.pid,
      oomScoreAdj: Number(process.get('oomScoreAdj') ?? 0),
      ...(terminal ? { socketPath: files.socket } : {}),
    }
  }

  /**
   * crun ends with its command. runc copies the output, and waits for whoever the command left holding that; with
   * `--detach` it does not, and conmon passes the exit code on in its place.
   */
  #commandLine(
    { id, runtime }: ContainerRecord,
    files: ExecFiles,
    socket: string | undefined,
  ): { file: string; args: string[] } {
    if (basename(runtime.path) === 'crun') {
      // Why there is no command is otherwise said on its terminal alone.
      const log = socket === undefined ? [] : ['--log', '/proc/self/fd/2']
      const args = [...log, '--root', runtime.root, 'exec', '--process', files.process, '--pid-file', files.pid]
      if (socket !== undefined) args.push('--console-socket', socket)
      return { file: runtime.path, args: [...args, id] }
    }
    const args = ['--api-version', '1', '--sync', '--exec', '--exec-process-spec', files.process]
    args.push('--cid', id, '--cuuid', basename(files.process), '--container-pidfile', files.pid)
    args.push('--runtime', runtime.path, '--runtime-arg', `--root=${runtime.root}`)
    if (socket !== undefined) args.push('--runtime-opt', `--console-socket=${socket}`)
    args.push('--log-path', 'passthrough', '--log-level', 'error')
    return { file: this.#conmonPath, args }
  }
}

/** Whether the container ended before the command could begin decides whose fault it is. */
async function notStarted(
  what: string,
  ending: { readonly exitCode: number; readonly stderr: Buffer },
  isRunning: () => Promise<boolean>,
): Promise<CodedError> {
  const why = runtimeMessage(ending.stderr.toString('utf8')) || `exit code ${ending.exitCode}`
  if (!(await isRunning())) return new CodedError('FailedPrecondition', `${what}: it does not run: ${why}`)
  return new CodedError('Internal', `${what}: ${why}`)
}
