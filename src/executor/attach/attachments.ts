import { abortReason } from '../../core/deadline.ts'
import type { Relay } from '../../host/relay/relay.ts'
import type { ContainerLogs } from './logs.ts'
import { SocketOutput } from './packets.ts'
import type { OutputName } from './records.ts'
import { type AttachedOutput, AttachSession } from './session.ts'
import { AttachSocket } from './socket.ts'
import { tellMonitor } from '../control-fifo.ts'
import type { AttachRequest, ContainerRecord, ExitStatus, ProcessStreams, TerminalSize } from '../types.ts'

/** Newer monitors take no size that is larger. */
const MAX_SIZE = 1000

/** What attaching needs of a container, and its record does not tell. */
export interface Attached {
  readonly record: ContainerRecord
  readonly monitorPid: number
  /** Resolves when the process has ended and the monitor has written all that it had printed. */
  readonly wait: (signal: AbortSignal) => Promise<ExitStatus>
}

/**
 * The clients of containers' first processes. Output is followed from the log, where each client has its own pace; what has no
 * log comes from the monitor's attach socket, where all input goes.
 */
export class Attachments {
  readonly #deps: { readonly logs: ContainerLogs; readonly relay: Pick<Relay, 'packets'> }
  readonly #sockets = new Map<string, AttachSocket>()

  constructor(deps: { readonly logs: ContainerLogs; readonly relay: Pick<Relay, 'packets'> }) {
    this.#deps = deps
  }

  /** See `ConmonExecutor.attach`. */
  async attach(attached: Attached, request: AttachRequest, signal: AbortSignal): Promise<ProcessStreams> {
    signal.throwIfAborted()
    const { record, monitorPid, wait } = attached
    const { io, wanted } = request
    const names = (['stdout', 'stderr'] as const).filter((name) => wanted[name] && !(io.terminal && name === 'stderr'))
    const socket = this.#socket(record, io)
    socket.use()
    try {
      const output =
        io.logPath === ''
          ? await ofSocket(socket, names, record.id)
          : await outputOfLog(this.#deps.logs, { path: io.logPath, monitorPid, names }, signal)
      const input = wanted.stdin && io.stdin ? socket : null
      const onAbort = (): void => void session.close(abortReason(signal)).catch(() => undefined)
      const release = (): void => {
        signal.removeEventListener('abort', onAbort)
        socket.release()
      }
      const resize = ({ width, height }: TerminalSize): void => {
        if (io.terminal) tellMonitor(record.bundleDir, [1, Math.min(height, MAX_SIZE), Math.min(width, MAX_SIZE)])
      }
      const session = new AttachSession({ id: record.id, output, input, wait, resize, release })
      signal.addEventListener('abort', onAbort, { once: true })
      if (signal.aborted) onAbort()
      return session
    } catch (error) {
      socket.release()
      throw error
    }
  }

  #socket({ bundleDir }: ContainerRecord, io: AttachRequest['io']): AttachSocket {
    let socket = this.#sockets.get(bundleDir)
    if (socket) return socket
    const onGone = (): void => {
      if (this.#sockets.get(bundleDir) === socket) this.#sockets.delete(bundleDir)
    }
    const options = { bundleDir, output: io.logPath === '', endsInput: io.stdin && io.stdinOnce }
    socket = new AttachSocket(options, { relay: this.#deps.relay, onGone })
    this.#sockets.set(bundleDir, socket)
    return socket
  }
}

/** What is written to the log of a container from now on. @param log.monitorPid see `LogRequest`. */
export async function outputOfLog(
  logs: ContainerLogs,
  log: { readonly path: string; readonly monitorPid: number | null; readonly names: readonly OutputName[] },
  signal: AbortSignal,
): Promise<AttachedOutput> {
  const { path, monitorPid, names } = log
  if (names.length === 0) return { stdout: null, stderr: null, end: () => undefined }
  const followed = await logs.follow({ path, monitorPid, streams: names }, signal)
  const of = (name: OutputName) => followed.streams[names.indexOf(name)] ?? null
  return { stdout: of('stdout'), stderr: of('stderr'), end: () => followed.end() }
}

async function ofSocket(socket: AttachSocket, names: readonly OutputName[], id: string): Promise<AttachedOutput> {
  if (names.length === 0) return { stdout: null, stderr: null, end: () => undefined }
  const outputs = new Map(names.map((name) => [name, new SocketOutput(`${name} of container ${id}`)]))
  await socket.addOutputs(outputs)
  for (const output of outputs.values()) {
    output.once('close', () => {
      if ([...outputs.values()].every(({ destroyed }) => destroyed)) socket.removeOutputs(outputs)
    })
  }
  // They end with the connection, which the monitor closes after the last.
  return { stdout: outputs.get('stdout') ?? null, stderr: outputs.get('stderr') ?? null, end: () => undefined }
}
