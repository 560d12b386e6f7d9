import koffi from 'koffi'

const STUCK_SECONDS = 10

/**
 * Ends the process like `process.exit`, which waits for every thread and for all that the file system was asked. What is
 * stuck in the kernel keeps us for some seconds only: then the kernel ends us, by SIGALRM.
 */
export function exitForCertain(code: number, stuckSeconds = STUCK_SECONDS): never {
  koffi.load(null).func('unsigned int alarm(unsigned int)')(stuckSeconds)
  process.exit(code)
}
