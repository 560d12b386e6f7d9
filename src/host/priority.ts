import { setPriority } from 'node:os'

const BEFORE_OTHERS = -10
const AS_OTHERS = 0

/**
 * Lets the calling thread, and the threads that it starts from now on, run before others when the node is busy: it
 * answers who asks, while its pods' programs take what is left. Without the right to (CAP_SYS_NICE) nothing changes.
 */
export function runBeforeOthers(): void {
  try {
    setPriority(BEFORE_OTHERS)
  } catch {
    // It works as well, only with less precedence.
  }
}

/** Takes back {@link runBeforeOthers} for the calling thread, and so for the programs that it starts. */
export function runAsOthers(): void {
  setPriority(AS_OTHERS)
}
