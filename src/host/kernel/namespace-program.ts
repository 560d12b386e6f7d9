import { readSync, writeSync } from 'node:fs'
import { CodedError } from '../../core/errors.ts'
import type { Libc } from '../libc.ts'
import { DEFAULT_PATH } from '../programs/outcome.ts'

// Namespaces that only a process with one thread can make. For the kernel thread: all of it is synchronous.

const UNSHARE = '/usr/bin/unshare'
const NSENTER = '/usr/bin/nsenter'
const CAT = '/bin/cat'
const ECHO = '\n'
const REAP_PAUSE_MS = 1

/** Writes sysctls, and then answers what it is told. */
const SCRIPT = `while [ $# -gt 0 ]; do printf %s "$2" >"/proc/sys/$1" || exit; shift 2; done; exec ${CAT}`

/** A user namespace, or what one owns. */
export type NewNamespaces = 'user' | OwnedNamespaces

export interface OwnedNamespaces {
  /** Where the user namespace is pinned that shall own them. */
  readonly owner: string
  readonly kinds: readonly ('net' | 'ipc' | 'uts')[]
  /** A network namespace to be in while sysctls are written. */
  readonly net?: string | undefined
  /** By path below /proc/sys. Those of IPC namespaces are for the root of the owner alone. */
  readonly sysctls: readonly (readonly [path: string, value: string])[]
}

/**
 * Has a program make namespaces, and hold them while `work` is done: they are in /proc/<pid>/ns. The program ends with
 * us, too, whenever we die.
 * @throws CodedError `Internal` with what the program says.
 */
export function withNewNamespaces<T>(libc: Libc, wanted: NewNamespaces, work: (pid: number) => T): T {
  const [file = '', ...args] = command(wanted)
  const input = libc.pipe()
  const output = libc.pipe()
  let pid: number
  try {
    // It answers what it is told once it is in its namespaces.
    writeSync(input[1], ECHO)
    pid = libc.spawn({ file, args, env: [`PATH=${DEFAULT_PATH}`, 'LC_ALL=C'], fds: [input[0], output[1], output[1]] })
  } catch (error) {
    for (const fd of [input[1], output[0]]) libc.close(fd)
    throw error
  } finally {
    for (const fd of [input[0], output[1]]) libc.close(fd)
  }
  try {
    const answer = read(output[0])
    if (answer !== ECHO)
      throw new CodedError('Internal', `make namespaces: ${file} ${args.join(' ')}: ${answer.trim()}`)
    return work(pid)
  } finally {
    for (const fd of [input[1], output[0]]) libc.close(fd)
    end(libc, pid)
  }
}

function command(wanted: NewNamespaces): readonly string[] {
  if (wanted === 'user') return [UNSHARE, '--user', CAT]
  const { owner, kinds, net, sysctls } = wanted
  const enter = [`--user=${owner}`, ...(net === undefined ? [] : [`--net=${net}`])]
  const run = ['/bin/sh', '-c', SCRIPT, 'sh', ...sysctls.flat()]
  return [NSENTER, ...enter, '--', UNSHARE, ...kinds.map((kind) => `--${kind}`), ...run]
}

function read(fd: number): string {
  const buffer = Buffer.alloc(1024)
  return buffer.toString('utf8', 0, readSync(fd, buffer))
}

/** It is our child, so that the pid is its own until it is reaped. */
function end(libc: Libc, pid: number): void {
  process.kill(pid, 'SIGKILL')
  const never = new Int32Array(new SharedArrayBuffer(4))
  while (libc.reap(pid) === null) Atomics.wait(never, 0, 0, REAP_PAUSE_MS)
}
