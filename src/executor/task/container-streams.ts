import { closeSync, constants, openSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Logger } from 'pino'
import { CodedError, errorCode, errorMessage } from '../../core/errors.ts'
import type { Descriptors } from '../../host/descriptors.ts'
import type { Libc } from '../../host/libc.ts'
import type { Programs } from '../../host/programs/programs.ts'
import type { ContainerIo, TaskRecord } from '../types.ts'
import type { OutputRequest } from './output-disk.ts'
import type { TaskOutput, TaskOutputs } from './outputs.ts'
import {
  isInputUsed,
  loadIo,
  makeFifos,
  NO_STDIO,
  outputFifos,
  removeStdio,
  saveIo,
  type Stdio,
  stdioIn,
} from './stdio.ts'
import { TaskInput } from './task-input.ts'

const STAT_MS = 10_000

/** What we have open of the first process of a container. */
export interface HeldStreams {
  readonly io: ContainerIo | null
  readonly stdio: Stdio
  /** Null when there is none, or none any more. */
  readonly output: TaskOutput | null
  readonly input: TaskInput | null
  /** Of the process, when it can be seen from here; otherwise 0. */
  pid: number
}

export interface ContainerStreamsDeps {
  readonly outputs: TaskOutputs
  readonly libc: Libc
  readonly descriptors: Descriptors
  readonly programs: Programs
  readonly logger: Logger
  /** Tells the service of a container to end its input. */
  readonly closeIo: (record: TaskRecord) => Promise<void>
}

/** The FIFOs of containers' first processes, from when they are made to when they are removed, across daemons. */
export class ContainerStreams implements Disposable {
  readonly #deps: ContainerStreamsDeps
  readonly #held = new Map<string, Promise<HeldStreams>>()

  constructor(deps: ContainerStreamsDeps) {
    this.#deps = deps
  }

  /** For a new container. @param device the one that the log is on, empty where there is none. @throws CodedError as `TaskOutputs.open` does. */
  async make(
    record: TaskRecord,
    io: ContainerIo | undefined,
    device: string,
    signal: AbortSignal,
  ): Promise<HeldStreams> {
    const made = this.#make(record, io, device, signal)
    void this.#hold(record, made)
    return made
  }

  /** Those of a container; those of an earlier daemon are opened again, which is how its log goes on. */
  async of(record: TaskRecord): Promise<HeldStreams> {
    return this.#held.get(record.id) ?? this.#hold(record, this.#resume(record))
  }

  /** Closes and removes all. */
  async remove(record: TaskRecord): Promise<void> {
    const held = this.#held.get(record.id)
    this.#held.delete(record.id)
    // One that could not be opened has nothing to be closed.
    const streams = await held?.catch(() => null)
    streams?.output?.close()
    streams?.input?.[Symbol.dispose]()
    await removeStdio(record.bundleDir)
  }

  /** Closes the inputs; the outputs are their owner's. */
  [Symbol.dispose](): void {
    for (const held of this.#held.values()) {
      held.then(({ input }) => input?.[Symbol.dispose]()).catch(() => undefined)
    }
  }

  #hold(record: TaskRecord, held: Promise<HeldStreams>): Promise<HeldStreams> {
    this.#held.set(record.id, held)
    held.catch(() => {
      if (this.#held.get(record.id) === held) this.#held.delete(record.id)
    })
    return held
  }

  async #make(
    record: TaskRecord,
    io: ContainerIo | undefined,
    device: string,
    signal: AbortSignal,
  ): Promise<HeldStreams> {
    if (!io) return { io: null, stdio: NO_STDIO, output: null, input: null, pid: 0 }
    const stdio = stdioIn(record.bundleDir, io)
    await saveIo(record.bundleDir, io)
    makeFifos(this.#deps.libc, stdio)
    const output = await this.#openOutput(record, io, { device, isResumed: false }, signal)
    return this.#withInput({ io, stdio, output, pid: 0 }, record, true)
  }

  async #resume(record: TaskRecord): Promise<HeldStreams> {
    const io = await loadIo(record.bundleDir)
    if (!io) return { io: null, stdio: NO_STDIO, output: null, input: null, pid: 0 }
    const { signal } = new AbortController()
    // One whose directory has gone, or does not answer, keeps no others waiting.
    const own = (): string => `of ${io.logPath}`
    const device = io.logPath === '' ? '' : await logDevice(this.#deps.programs, io.logPath, signal).catch(own)
    const output = await this.#openOutput(record, io, { device, isResumed: true }, signal).catch((error: unknown) => {
      if (errorCode(error) === 'NotFound') return null
      throw error
    })
    const held = this.#withInput({ io, stdio: stdioIn(record.bundleDir, io), output, pid: 0 }, record, false)
    // The client whose input it was has gone with the daemon that it talked to.
    if (io.stdin && io.stdinOnce && (await isInputUsed(record.bundleDir))) {
      held.input?.endInput().catch((error: unknown) => {
        this.#deps.logger.warn({ id: record.id, error: errorMessage(error) }, 'input of a container cannot be ended')
      })
    }
    return held
  }

  async #openOutput(
    record: TaskRecord,
    io: ContainerIo,
    how: Pick<OutputRequest, 'device' | 'isResumed'>,
    signal: AbortSignal,
  ): Promise<TaskOutput> {
    const { logPath: path, logRoot: root = '', logMaxBytes: maxBytes } = io
    const log = path === '' ? null : { path, root, maxBytes }
    const fifos = outputFifos(stdioIn(record.bundleDir, io))
    return this.#deps.outputs.open({ id: record.id, fifos, log, ...how }, signal)
  }

  #withInput(held: Omit<HeldStreams, 'input'>, record: TaskRecord, isNew: boolean): HeldStreams {
    const { io, stdio } = held
    if (!io?.stdin) return { ...held, input: null }
    const options = { path: stdio.stdin, closes: io.stdinOnce, terminal: io.terminal }
    const { descriptors } = this.#deps
    const endOfFile = (): number | null => endOfFileOf(descriptors, streams.pid)
    const deps = { descriptors, closeIo: () => this.#deps.closeIo(record), endOfFile }
    const streams: HeldStreams = { ...held, input: new TaskInput(options, deps, isNew) }
    return streams
  }
}

/**
 * The number of the file system on which a log is; a program looks, which can be killed.
 * @throws CodedError `FailedPrecondition` when its directory is not there.
 */
async function logDevice(programs: Programs, path: string, signal: AbortSignal): Promise<string> {
  const args = ['--format', '%d', '--', `${dirname(path)}/.`]
  const { exitCode, stdout } = await programs.run('/usr/bin/stat', args, { timeoutMs: STAT_MS, signal })
  if (exitCode === 0) return stdout.trim()
  throw new CodedError('FailedPrecondition', `log path ${path}: there is no such directory`)
}

/** Of the terminal that a process has as its input, if it is one of this node and read in lines. */
export function endOfFileOf(descriptors: Descriptors, pid: number): number | null {
  if (pid === 0) return null
  let fd: number
  try {
    fd = openSync(`/proc/${pid}/fd/0`, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch {
    // It has ended, or its input is none that can be opened.
    return null
  }
  try {
    return descriptors.endOfFileCharacter(fd)
  } finally {
    closeSync(fd)
  }
}
