import { errorMessage } from '../../core/errors.ts'
import type { ProcessStreams } from '../../executor/types.ts'
import { pump } from './pump.ts'
import type { Outcome, RemoteCommand, StreamingDeps, StreamRequest } from '../types.ts'

/**
 * Runs or attaches what the request says, carries all bytes, and tells the client the end. When it returns, the streams of the
 * process are given up.
 * @throws when the client could not be told.
 */
export async function serveCommand(
  command: RemoteCommand,
  request: Exclude<StreamRequest, { kind: 'portforward' }>,
  { containers, logger }: Pick<StreamingDeps, 'containers' | 'logger'>,
): Promise<void> {
  const open = (): Promise<ProcessStreams> =>
    request.kind === 'exec'
      ? containers.exec(request.containerId, request.request, command.signal)
      : containers.attach(request.containerId, request.request, command.signal)
  const release = async (process: ProcessStreams): Promise<void> => {
    try {
      await process[Symbol.asyncDispose]()
    } catch (error) {
      // How the process ended was seen, and stands.
      logger.error({ err: error, container: request.containerId }, 'the streams of a process could not be given up')
    }
  }
  const outcome = await run(command, open, release)
  if ('error' in outcome) logger.debug({ error: errorMessage(outcome.error) }, 'remote command broke off')
  // The exit code of a container's own process is no result of being attached to it.
  await command.finish('exitCode' in outcome && request.kind === 'attach' ? { exitCode: 0 } : outcome)
}

async function run(
  command: RemoteCommand,
  open: () => Promise<ProcessStreams>,
  release: (process: ProcessStreams) => Promise<void>,
): Promise<Outcome> {
  try {
    const process = await open()
    try {
      return { exitCode: await pump(command, process) }
    } finally {
      await release(process)
    }
  } catch (error) {
    return { error }
  }
}
