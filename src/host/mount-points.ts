import { readFile, realpath } from 'node:fs/promises'
import { errnoOf } from '../core/errors.ts'

/** What is mounted below a directory, each as often as it is, in the order in which it was mounted. */
export async function mountPoints(directory: string): Promise<string[]> {
  const mountinfo = await readFile('/proc/self/mountinfo', 'utf8')
  // The kernel tells no links, and /var/run is one.
  const real = await realpath(directory).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return directory
    throw error
  })
  return mountPointsIn(mountinfo, real).map((path) => directory + path.slice(real.length))
}

/** The same of the text of `/proc/PID/mountinfo`, in which white space and backslashes are octal (proc(5)). */
export function mountPointsIn(mountinfo: string, directory: string): string[] {
  return mountinfo
    .split('\n')
    .map((line) => (line.split(' ')[4] ?? '').replaceAll(/\\(\d{3})/g, (_, code: string) => toChar(code)))
    .filter((path) => path.startsWith(`${directory}/`))
}

function toChar(octal: string): string {
  return String.fromCharCode(Number.parseInt(octal, 8))
}
