import { readdir, readlink } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { deadline, sleep } from '../core/deadline.ts'
import { CodedError } from '../core/errors.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { Programs } from '../host/programs/programs.ts'
import { tellMonitor } from './control-fifo.ts'

const TIMEOUT_MS = 10_000
/** Longer than a monitor needs unless its disk hangs: to ask once too often costs what the new log holds by then. */
const ASK_AGAIN_MS = 3000
const POLL_MS = 5

/**
 * Makes the directory of a log where it is missing, and refuses a log that the monitor must not write to.
 *
 * The caller chose the path, and it may lie on a file system that hangs: only programs that can be killed look at it.
 *
 * @throws CodedError `InvalidArgument` for a path that conmon cannot be told, `FailedPrecondition` for a link or anything
 * but a file, which may lead to, or be, what belongs to somebody else.
 * @returns the number of the file system that it is on.
 */
export async function prepareLog(programs: Programs, path: string, root: string, signal: AbortSignal): Promise<string> {
  if (path.includes(':')) throw new CodedError('InvalidArgument', `log path ${path}: conmon takes none with a colon`)
  const directory = dirname(path)
  const options = { timeoutMs: TIMEOUT_MS, signal }
  const look = async (): Promise<{ device: string; types: string[] }> => {
    const args = ['--format', '%d %F', '--', `${directory}/.`, path]
    const lines = (await programs.run('/usr/bin/stat', args, options)).stdout.split('\n').filter((line) => line !== '')
    // Of what is not there nothing is printed.
    return {
      device: lines[0]?.split(' ')[0] ?? '',
      types: lines.map((line) => line.slice(line.indexOf(' ') + 1)),
    }
  }
  let found = await look()
  if (found.types.length === 0) {
    await programs.runOk('/usr/bin/mkdir', ['-p', '-m', '0755', '--', directory], options)
    found = await look()
  }
  const [directoryType, type] = found.types
  if (directoryType === 'directory' && (type === undefined || type.startsWith('regular'))) {
    if (root !== '' && relative(root, directory) !== '') await refuseLinks(programs, root, directory, signal)
    return found.device
  }
  const what = type ?? directoryType ?? 'nothing'
  throw new CodedError('FailedPrecondition', `log path ${path}: there is a ${what} in place of a file`)
}

/** The caller may have its logs where it likes; what is below that directory may be filled by others. */
async function refuseLinks(programs: Programs, root: string, directory: string, signal: AbortSignal): Promise<void> {
  const options = { timeoutMs: TIMEOUT_MS, signal }
  const { stdout } = await programs.runOk('/usr/bin/realpath', ['-z', '-e', '--', root, directory], options)
  const [realRoot = '', realDirectory] = stdout.split('\0')
  if (realDirectory === join(realRoot, relative(root, directory))) return
  throw new CodedError('FailedPrecondition', `log path ${directory}: there is a link below ${root}`)
}

/** See `ConmonExecutor.reopenLog`. */
export async function reopenLog(
  programs: Programs,
  request: { readonly bundleDir: string; readonly monitor: ProcessIdentity; readonly path: string },
  signal: AbortSignal,
): Promise<void> {
  const { bundleDir, monitor, path } = request
  using limit = deadline(`reopen log ${path}`, TIMEOUT_MS, signal)
  const options = { timeoutMs: TIMEOUT_MS, signal: limit.signal }
  const { stdout } = await programs.runOk('/usr/bin/readlink', ['-e', '-n', '--', dirname(path)], options)
  const target = join(stdout, basename(path))
  if (await isOpen(monitor, target)) return
  // conmon writes to the path with `.tmp` and renames that. It follows links there, and ends when it cannot make one.
  const temporary = `${target}.tmp`
  await programs.runOk('/usr/bin/install', ['-m', '0600', '--', '/dev/null', temporary], options)
  for (;;) {
    if (!tellMonitor(bundleDir, [2, 0, 0])) {
      throw new CodedError(
        'FailedPrecondition',
        `reopen log ${path}: the monitor in ${bundleDir} has ended, or does not read`,
      )
    }
    for (let waitedMs = 0; waitedMs < ASK_AGAIN_MS; waitedMs += POLL_MS) {
      if (await isOpen(monitor, target)) return
      await sleep(POLL_MS, limit.signal)
    }
  }
}

/** By the names of what it has open, which takes no look at the files. */
async function isOpen(monitor: ProcessIdentity, path: string): Promise<boolean> {
  const directory = `/proc/${monitor.pid}/fd`
  try {
    const links = await Promise.all(
      (await readdir(directory)).map((fd) => readlink(join(directory, fd)).catch(() => '')),
    )
    return links.includes(path)
  } catch (error) {
    throw new CodedError('FailedPrecondition', `reopen log ${path}: its monitor has ended`, { cause: error })
  }
}
