import type { ContainerIo } from '../executor/types.ts'
import type { Pod } from './pods.ts'
import type { ContainerMetadata } from './types.ts'

/** What becomes of the input and the output of a container's first process. */
export function containerIo({ config, logPath }: ContainerMetadata, pod: Pod, logMaxBytes: number): ContainerIo {
  return {
    terminal: config.tty,
    stdin: config.stdin,
    stdinOnce: config.stdin_once,
    logPath,
    logRoot: pod.config.log_directory,
    logMaxBytes,
  }
}
