import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { deadline } from '../core/deadline.ts'
import { CodedError, errnoOf } from '../core/errors.ts'
import type { ExecEnding, ExecProgram } from '../host/exec-run.ts'
import type { Programs } from '../host/programs.ts'
import { jsonMembers, jsonObject } from './json-members.ts'
import { runtimeMessage } from './runtime-message.ts'
import { StartSlots } from './start-slots.ts'
import type { ContainerRecord, ExecOutput, ExecRequest } from './types.ts'

/** Each costs some milliseconds of a processor and some megabytes, whatever the command does. */
const STARTS = 16
const START_MS = 1000
/** setTimeout's longest; longer ones would be over at once. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1
const SHOWN_COMMAND = 120

/** Runs commands in containers. */
export class Execs {
  readonly #conmonPath: string
  readonly #programs: Programs
  readonly #slots = new StartSlots({ count: STARTS, holdMs: START_MS })
  #lastKey = 0

  constructor(options: { readonly conmonPath: string }, deps: { readonly programs: Programs }) {
    this.#conmonPath = options.conmonPath
    this.#programs = deps.programs
  }

  /** See `ConmonExecutor.execSync`. @throws CodedError `FailedPrecondition` when there is no bundle. */
  async run(
    record: ContainerRecord,
    request: ExecRequest,
    isRunning: () => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<ExecOutput> {
    const what = `exec ${shown(request.command)} in container ${record.id}`
    using limit = timeLimit(what, request.timeoutMs, signal)
    using _slot = await this.#slots.take(limit.signal)
    const program = await this.#program(record, request)
    const ending = await this.#programs.exec(program, limit.signal)
    if (!ending.started) throw await notStarted(what, ending, isRunning)
    return { exitCode: ending.exitCode, stdout: toBuffer(ending.stdout), stderr: toBuffer(ending.stderr) }
  }

  async #program(record: ContainerRecord, request: ExecRequest): Promise<ExecProgram> {
    const { bundleDir } = record
    const process = await containerProcess(record)
    const name = join(bundleDir, `exec-${++this.#lastKey}`)
    const files = { process: `${name}.json`, pid: `${name}.pid` }
    process.delete('consoleSize')
    const text = jsonObject(
      new Map([...process, ['terminal', 'false'], ['args', JSON.stringify(request.command)]] as const),
    )
    return {
      ...this.#commandLine(record, files),
      cwd: bundleDir,
      input: { path: files.process, text },
      pidPath: files.pid,
      oomScoreAdj: Number(process.get('oomScoreAdj') ?? 0),
      maxOutputBytes: request.maxOutputBytes,
    }
  }

  /**
   * crun ends with its command. runc copies the output, and waits for whoever the command left holding that; with
   * `--detach` it does not, and conmon passes the exit code on in its place.
   */
  #commandLine(
    { id, runtime }: ContainerRecord,
    files: { readonly process: string; readonly pid: string },
  ): { file: string; args: string[] } {
    if (basename(runtime.path) === 'crun') {
      const args = ['--root', runtime.root, 'exec', '--process', files.process, '--pid-file', files.pid, id]
      return { file: runtime.path, args }
    }
    const args = ['--api-version', '1', '--sync', '--exec', '--exec-process-spec', files.process]
    args.push('--cid', id, '--cuuid', basename(files.process), '--container-pidfile', files.pid)
    args.push('--runtime', runtime.path, '--runtime-arg', `--root=${runtime.root}`)
    args.push('--log-path', 'passthrough', '--log-level', 'error')
    return { file: this.#conmonPath, args }
  }
}

async function containerProcess(record: ContainerRecord): Promise<Map<string, string>> {
  let config: string
  try {
    config = await readFile(join(record.bundleDir, 'config.json'), 'utf8')
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
    throw new CodedError('FailedPrecondition', `exec in container ${record.id}: it has no bundle`, { cause: error })
  }
  return jsonMembers(jsonMembers(config).get('process') ?? '{}')
}

function timeLimit(
  what: string,
  timeoutMs: number,
  signal: AbortSignal,
): Disposable & { readonly signal: AbortSignal } {
  if (timeoutMs === 0) return { signal, [Symbol.dispose]: () => undefined }
  return deadline(`${what}: timeout`, Math.min(timeoutMs, MAX_TIMEOUT_MS), signal)
}

/** Whether the container ended before the command could begin decides whose fault it is. */
async function notStarted(what: string, ending: ExecEnding, isRunning: () => Promise<boolean>): Promise<CodedError> {
  const why = runtimeMessage(toBuffer(ending.stderr).toString('utf8')) || `exit code ${ending.exitCode}`
  if (!(await isRunning())) return new CodedError('FailedPrecondition', `${what}: it does not run: ${why}`)
  return new CodedError('Internal', `${what}: ${why}`)
}

function shown(command: readonly string[]): string {
  const text = JSON.stringify(command.join(' '))
  return text.length > SHOWN_COMMAND ? `${text.slice(0, SHOWN_COMMAND)}…"` : text
}

/** What came from another thread is no Buffer any more. */
function toBuffer({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength)
}
