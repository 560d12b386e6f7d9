import { CodedError } from '../core/errors.ts'
import { isPinnedNamespace, NSFS_MAGIC } from './kernel/namespace-file.ts'
import { expectSuccess, type RunProgram } from './programs/outcome.ts'

export interface HostPathRequest {
  readonly path: string
  /** Whether to make a directory of it when there is nothing. */
  readonly create: boolean
}

/** What a path of the node is, links followed. */
export interface HostPath {
  /** Absolute, without links; `''` when there is nothing. */
  readonly path: string
  readonly kind: 'directory' | 'file' | 'block' | 'char' | 'fifo' | 'socket' | 'missing'
  /** Of a device. */
  readonly major: number
  readonly minor: number
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

/** A path that takes longer lies on a file system that hangs. */
const TIMEOUT_MS = 10_000
const MISSING: HostPath = { path: '', kind: 'missing', major: 0, minor: 0, mode: 0, uid: 0, gid: 0 }
/** S_IFMT of stat.h, and what it masks out. */
const S_IFMT = 0o170000
const KINDS: Readonly<Record<number, HostPath['kind']>> = {
  0o040000: 'directory',
  0o100000: 'file',
  0o060000: 'block',
  0o020000: 'char',
  0o010000: 'fifo',
  0o140000: 'socket',
}

/**
 * Looks at paths that a caller chose, one answer for each. Programs do it, which can be ended: a path on a file system
 * that hangs holds up nobody else.
 * @throws CodedError `DeadlineExceeded`, `FailedPrecondition` for a path that cannot be made.
 */
export async function lookUpHostPaths(
  requests: readonly HostPathRequest[],
  run: RunProgram,
): Promise<readonly HostPath[]> {
  if (requests.length === 0) return []
  const found = await describe(
    requests.map(({ path }) => path),
    run,
  )
  const toMake = requests.filter(({ create }, at) => create && found[at]?.kind === 'missing').map(({ path }) => path)
  if (toMake.length === 0) return found
  const args = ['-p', '-m', '0755', '--', ...toMake]
  try {
    expectSuccess('/bin/mkdir', args, await run('/bin/mkdir', args, { timeoutMs: TIMEOUT_MS }))
  } catch (cause) {
    throw new CodedError('FailedPrecondition', `make ${toMake.join(', ')} on the node`, { cause })
  }
  return describe(
    requests.map(({ path }) => path),
    run,
  )
}

/**
 * Whether there is a namespace at a path that a caller chose.
 * @throws CodedError `DeadlineExceeded`.
 */
export async function isNamespaceAt(path: string, run: RunProgram): Promise<boolean> {
  // Where namespaces mostly are, everything lies in memory, and no program is needed.
  if (/^(?:\/var)?\/run\//.test(path)) return isPinnedNamespace(path)
  const args = ['--file-system', '--format=%t', '--', path]
  const { stdout } = await run('/usr/bin/stat', args, { timeoutMs: TIMEOUT_MS })
  return stdout.trim() === NSFS_MAGIC.toString(16)
}

async function describe(paths: readonly string[], run: RunProgram): Promise<HostPath[]> {
  const options = { timeoutMs: TIMEOUT_MS }
  const [real, stats] = await Promise.all([
    run('/usr/bin/realpath', ['-z', '-m', '--', ...paths], options),
    // What is not there is told on stderr and by the exit code; the others are answered all the same.
    run('/usr/bin/stat', ['-L', '--printf=%f %t %T %u %g %n\\0', '--', ...paths], options),
  ])
  const realPaths = real.stdout.split('\0')
  const byName = new Map(stats.stdout.split('\0').map((line) => parseStat(line)))
  return paths.map((path, at) => {
    const found = byName.get(path)
    return found ? { ...found, path: realPaths[at] ?? '' } : MISSING
  })
}

function parseStat(line: string): readonly [name: string, found: HostPath] {
  const [mode = '', major = '', minor = '', uid = '', gid = '', ...name] = line.split(' ')
  const bits = Number.parseInt(mode, 16)
  return [
    name.join(' '),
    {
      path: '',
      kind: KINDS[bits & S_IFMT] ?? 'missing',
      major: Number.parseInt(major, 16),
      minor: Number.parseInt(minor, 16),
      mode: bits & 0o7777,
      uid: Number(uid),
      gid: Number(gid),
    },
  ]
}
