import { readdir, readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { Config } from '../../config/config.ts'
import { errorMessage } from '../../core/errors.ts'
import { run } from '../../host/programs/run.ts'
import type { Part } from './collect.ts'

const PROGRAM_MS = 8000
const MAX_OUTPUT = 32 * 1024 * 1024
const JOURNAL_LINES = 5000
/** Of the unit: nothing that has its environment or its command line. */
const UNIT_PROPERTIES =
  'ActiveState,SubState,Result,NRestarts,MainPID,ExecMainStatus,ExecMainCode,StatusText,ActiveEnterTimestamp,' +
  'WatchdogTimestamp,MemoryCurrent,TasksCurrent,LimitNOFILE,FragmentPath,DropInPaths,NeedDaemonReload,UnitFileState'

const NODE_FILES = [
  '/etc/os-release',
  '/proc/version',
  '/proc/uptime',
  '/proc/loadavg',
  '/proc/meminfo',
  '/proc/pressure/cpu',
  '/proc/pressure/io',
  '/proc/pressure/memory',
  '/proc/sys/fs/file-nr',
  '/proc/sys/fs/inotify/max_user_instances',
  '/proc/sys/kernel/pid_max',
  '/proc/sys/kernel/random/boot_id',
  '/proc/cgroups',
] as const

/** What is known of the machine, and of what is ours on it. */
export function nodeParts(config: Config): Part[] {
  const { root, state, netnsDir, cni } = config
  return [
    { name: 'node/system.txt', collect: async () => (await Promise.all(NODE_FILES.map(fileText))).join('\n') },
    { name: 'node/versions.txt', collect: (signal) => versions(config, signal) },
    { name: 'node/journal.txt', collect: (signal) => journal(signal) },
    {
      name: 'node/unit.txt',
      collect: (signal) =>
        output(signal, 'systemctl', 'show', 'sandboxerd.service', 'sandboxerd.socket', '-p', UNIT_PROPERTIES),
    },
    // Without command lines: they may hold anything.
    {
      name: 'node/processes.txt',
      collect: (signal) => output(signal, 'ps', '-eo', 'pid,ppid,stat,wchan:32,etimes,rss,nlwp,comm'),
    },
    { name: 'node/mounts.txt', collect: () => mountsBelow([root, state, netnsDir]) },
    { name: 'node/netns.txt', collect: (signal) => output(signal, 'ls', '-lni', '--time-style=full-iso', netnsDir) },
    { name: 'node/links.txt', collect: (signal) => output(signal, 'ip', '-details', 'link', 'show') },
    { name: 'node/addresses.txt', collect: (signal) => output(signal, 'ip', 'address', 'show') },
    { name: 'node/routes.txt', collect: (signal) => output(signal, 'ip', 'route', 'show', 'table', 'all') },
    { name: 'node/cgroups.txt', collect: (signal) => cgroupsOf(config, signal) },
    { name: 'node/disk.txt', collect: (signal) => output(signal, 'df', '-kPT', root, state) },
    { name: 'node/files.txt', collect: (signal) => files(config, signal) },
    { name: 'node/cni.txt', collect: (signal) => output(signal, 'ls', '-ln', cni.confDir, ...cni.binDirs) },
  ]
}

async function journal(signal: AbortSignal): Promise<string> {
  const args = ['-u', 'sandboxerd', '-n', String(JOURNAL_LINES), '--no-pager', '-q', '-o', 'short-iso-precise']
  return output(signal, 'journalctl', ...args)
}

async function versions({ runtimes, conmon, images }: Config, signal: AbortSignal): Promise<string> {
  const programs = [...Object.values(runtimes).map(({ runtime }) => runtime), conmon.path, images.skopeo]
  const paths = [...new Set(programs)].filter((path) => path !== '')
  const told = paths.map(
    async (path) => `== ${path} --version\n${await attempt(() => output(signal, path, '--version'))}`,
  )
  return [`node ${process.version} on ${hostname()}`, ...(await Promise.all(told))].join('\n')
}

/** The mounts whose path or root is below one of these, as the kernel lists them. */
async function mountsBelow(directories: readonly string[]): Promise<string> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')
  return lines.filter((line) => directories.some((directory) => line.includes(` ${directory}`))).join('\n')
}

/** Those that carry the id of a sandbox or container that has a directory here, and those of the daemon itself. */
async function cgroupsOf({ root, state }: Config, signal: AbortSignal): Promise<string> {
  const rooms = [root, state].flatMap((directory) => ['sandboxes', 'containers'].map((room) => join(directory, room)))
  const ids = (await Promise.all(rooms.map((room) => readdir(room).catch(() => [])))).flat()
  const all = await output(signal, 'find', '/sys/fs/cgroup', '-type', 'd')
  return all
    .split('\n')
    .filter((path) => path.includes('sandboxerd') || ids.some((id) => id.length >= 32 && path.includes(id)))
    .join('\n')
}

/** Names, sizes and modes; what is in them is not looked at. */
async function files({ root, state }: Config, signal: AbortSignal): Promise<string> {
  const args = ['-xdev', '-maxdepth', '3', '-not', '-path', '*/images/*', '-printf', '%M %u %g %s %TFT%TT %p\\n']
  return output(signal, 'find', root, state, ...args)
}

async function fileText(path: string): Promise<string> {
  return `== ${path}\n${await attempt(() => readFile(path, 'utf8'))}`
}

/** What a program prints, and how it ended where that is not well. */
async function output(signal: AbortSignal, file: string, ...args: readonly string[]): Promise<string> {
  const limits = { timeoutMs: PROGRAM_MS, maxOutputBytes: MAX_OUTPUT, signal }
  const { exitCode, stdout, stderr } = await run(file, args, limits)
  return exitCode === 0 ? stdout : `${stdout}\n(${file} ended with ${exitCode}: ${stderr.trim()})`
}

async function attempt(read: () => Promise<string>): Promise<string> {
  try {
    return await read()
  } catch (error) {
    return `(${errorMessage(error)})`
  }
}
