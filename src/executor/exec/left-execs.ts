import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { readTextIfAny, removeFile } from '../../host/files.ts'
import type { Libc } from '../../host/libc.ts'
import {
  cgroupsOf,
  commandLine,
  identifyProcess,
  isTrusted,
  listPids,
  type ProcessIdentity,
} from '../../host/process.ts'
import { heldPipes, killTree } from '../../host/programs/process-tree.ts'
import type { ContainerRecord } from '../types.ts'

/** The files of an exec in the bundle directory: what it runs, its pid, and where its terminal is handed over. */
export interface ExecFiles {
  readonly process: string
  readonly pid: string
  readonly socket: string
}

const EXEC_FILE = /^exec-(\d+)\.(?:json|pid|sock)$/

/** @param number is not used twice at the same time. */
export function execFiles(bundleDir: string, number: number | string): ExecFiles {
  const name = join(bundleDir, `exec-${number}`)
  return { process: `${name}.json`, pid: `${name}.pid`, socket: `${name}.sock` }
}

/**
 * Kills the commands, with all their processes, that a daemon which was killed has left in a container: their clients are
 * gone. To be called before the first exec.
 *
 * @param main the container's first process.
 */
export async function killLeftExecs(
  record: ContainerRecord,
  main: ProcessIdentity,
  deps: { readonly libc: Libc },
): Promise<void> {
  const names = await readdir(record.bundleDir)
  const numbers = new Set(names.flatMap((name) => EXEC_FILE.exec(name)?.[1] ?? []))
  if (numbers.size === 0) return
  const lines = listPids().map((pid) => ({ pid, line: commandLine(pid) }))
  for (const number of numbers) {
    const files = execFiles(record.bundleDir, number)
    // The runtime or the monitor, which is there as long as the command is unless somebody has killed it.
    for (const { pid, line } of lines.filter((each) => each.line.includes(files.process))) {
      const program = isTrusted(pid, record.bundleDir) ? identifyProcess(pid, main.bootId) : null
      const isRuntime = basename(line[0] ?? '') === basename(record.runtime.path)
      if (program) killTree(deps.libc, program, isRuntime ? heldPipes(pid) : [])
    }
    const command = await leftCommand(record, main, files.pid)
    if (command) killTree(deps.libc, command, [])
    for (const path of [files.process, files.pid, files.socket]) await removeFile(path)
  }
}

/** By its pid file; the pid may be a stranger's by now, which the cgroup tells. */
async function leftCommand(
  record: ContainerRecord,
  main: ProcessIdentity,
  pidPath: string,
): Promise<ProcessIdentity | null> {
  const pid = Number.parseInt((await readTextIfAny(pidPath)) ?? '', 10)
  if (Number.isNaN(pid) || pid === main.pid) return null
  const process = identifyProcess(pid, main.bootId)
  const cgroups = [...(await cgroupsOf(pid)).values()]
  return cgroups.some((path) => path.includes(record.id)) ? process : null
}
