import { basename, dirname, join } from 'node:path'
import { CodedError } from '../core/errors.ts'
import { readTextIfAny } from '../host/files.ts'
import { commandLine, identifyProcess, isTrusted, listPids, type ProcessIdentity } from '../host/process.ts'
import type { ContainerIo, ContainerRecord, OciRuntime } from './types.ts'

/** Files in the bundle directory. */
export const CONTAINER_PIDFILE = 'container.pid'
export const MONITOR_PIDFILE = 'conmon.pid'
/** conmon makes its terminal's socket in TMPDIR, cuts a path that is too long for one, and never says so. */
const TERMINAL_SOCKET = 'conmon-term.XXXXXX'
const MAX_SOCKET_PATH = 107

/** conmon's arguments to create the container and stay with it. */
export function monitorArguments(record: ContainerRecord, exitsDir: string, io?: ContainerIo): string[] {
  const { id, bundleDir } = record
  const args = ['--api-version', '1', '--cid', id, '--cuuid', id, '--bundle', bundleDir]
  args.push('--container-pidfile', join(bundleDir, CONTAINER_PIDFILE))
  args.push('--conmon-pidfile', join(bundleDir, MONITOR_PIDFILE))
  args.push('--exit-dir', exitsDir, '--full-attach', '--log-level', 'warning')
  args.push('--log-path', io?.logPath ? `k8s-file:${io.logPath}` : 'null')
  // What it has written is safe from everything but a crash of the node, and nobody waits for the disk.
  args.push('--no-sync-log')
  if (io?.logPath && io.logMaxBytes > 0) args.push('--log-size-max', String(io.logMaxBytes))
  if (io?.terminal) args.push('--terminal')
  if (io?.stdin) args.push('--stdin')
  if (io?.stdin && !io.stdinOnce) args.push('--leave-stdin-open')
  args.push(...runtimeArguments(record, io))
  return args
}

/**
 * The runtime as the monitor shall call it. In a user namespace it shall not find the node's /dev/null among its standard
 * streams, since crun (until August 2025) gives them to the root of that, whatever they are. The monitor has it for a
 * missing input, which a pipe that nobody writes to is, too, and for the output beside a terminal, which nobody reads.
 */
function runtimeArguments({ runtime, hasUserns }: ContainerRecord, io: ContainerIo | undefined): readonly string[] {
  const { path, root, systemdCgroup } = runtime
  if (!hasUserns) {
    return ['--runtime', path, '--runtime-arg', `--root=${root}`, ...(systemdCgroup ? ['--systemd-cgroup'] : [])]
  }
  const command = [path, `--root=${root}`, ...(systemdCgroup ? ['--systemd-cgroup'] : [])]
  const input = io?.stdin && !io.terminal ? '' : ': | '
  const output = io?.terminal ? ' >&2' : ''
  const args = ['-c', `${input}"$0" "$@"${output}`, ...command]
  return ['--runtime', '/bin/sh', ...args.flatMap((arg) => ['--runtime-arg', arg])]
}

/** The environment of a monitor that makes a terminal: nobody else shall be able to write where its socket is. */
export function monitorEnvironment(record: ContainerRecord, io?: ContainerIo): Record<string, string> {
  const directory = dirname(record.bundleDir)
  return io?.terminal && join(directory, TERMINAL_SOCKET).length <= MAX_SOCKET_PATH ? { TMPDIR: directory } : {}
}

/**
 * The pid in conmon's answer, which is `{"data": PID}`, or `{"data": -1, "message": "what the runtime said"}`.
 * @throws CodedError `Internal` with what the runtime said.
 */
export function monitorAnswer(answer: string, record: ContainerRecord): number {
  let parsed: { data?: unknown; message?: unknown }
  try {
    parsed = JSON.parse(answer) as typeof parsed
  } catch (error) {
    throw new CodedError('Internal', `create container ${record.id}: conmon answered ${answer}`, { cause: error })
  }
  if (typeof parsed.data === 'number' && parsed.data > 0) return parsed.data
  const why = typeof parsed.message === 'string' ? parsed.message.trim().replaceAll(/\s*\n\s*/g, '; ') : answer
  throw new CodedError('Internal', `create container ${record.id} with ${record.runtime.path}: ${why}`)
}

/** A monitor as its process tells of itself. */
export interface FoundMonitor {
  readonly id: string
  readonly pid: number
  readonly bundleDir: string
  readonly runtime: OciRuntime
}

/** The monitors that write to this exits directory, which is what tells ours from those of others. */
export function listMonitors(exitsDir: string): FoundMonitor[] {
  return listPids().flatMap((pid) => {
    const monitor = monitorIn(commandLine(pid), exitsDir)
    return monitor && isTrusted(pid, exitsDir) ? [{ ...monitor, pid }] : []
  })
}

/** What a command line says of a monitor; null when it is none, or another's. */
export function monitorIn(args: readonly string[], exitsDir: string): Omit<FoundMonitor, 'pid'> | null {
  const valueOf = (flag: string): string => (args.includes(flag) ? (args[args.indexOf(flag) + 1] ?? '') : '')
  if (basename(args[0] ?? '') !== 'conmon' || valueOf('--exit-dir') !== exitsDir) return null
  const id = valueOf('--cid')
  return !/^[0-9a-f]{64}$/.test(id) ? null : { id, bundleDir: valueOf('--bundle'), runtime: runtimeIn(args) }
}

/** What {@link runtimeArguments} has made of a runtime. */
function runtimeIn(args: readonly string[]): OciRuntime {
  const path = args[args.indexOf('--runtime') + 1] ?? ''
  const at = args.findIndex((arg) => arg.startsWith('--root='))
  const systemdCgroup = args.includes('--systemd-cgroup')
  // A shell that runs the runtime has its path as an argument of its own, before the root.
  const isShell = path === '/bin/sh'
  return { path: isShell ? (args[at - 2] ?? '') : path, root: args[at]?.slice('--root='.length) ?? '', systemdCgroup }
}

/** Whether the process is the monitor of this container: by a command line that can be believed. */
export function isMonitorOf({ id, bundleDir }: ContainerRecord, pid: number): boolean {
  const args = commandLine(pid)
  const isNamed = basename(args[0] ?? '') === 'conmon' && args.includes(id) && args.includes(bundleDir)
  return isNamed && isTrusted(pid, dirname(bundleDir))
}

/** The container's monitor, as it wrote itself down, if it still runs. */
export async function findMonitor(record: ContainerRecord, bootId: string): Promise<ProcessIdentity | null> {
  const pid = Number.parseInt((await readTextIfAny(join(record.bundleDir, MONITOR_PIDFILE))) ?? '', 10)
  if (Number.isNaN(pid)) return null
  const identity = identifyProcess(pid, bootId)
  return identity && isMonitorOf(record, pid) ? identity : null
}
