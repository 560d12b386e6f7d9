import { closeSync, mkdirSync, openSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { basename, dirname } from 'node:path'
import { parentPort } from 'node:worker_threads'
import { errnoOf } from '../core/errors.ts'
import { answerCalls } from '../core/thread.ts'
import { makeDirectoryInRoot, readInRoot, resolveInRoot } from './in-root.ts'
import type { KernelCalls, Namespaces, OverlayRequest, PinRequest, TmpfsRequest } from './kernel.ts'
import {
  CLONE_FS,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWUTS,
  loadLibc,
  MNT_DETACH,
  MS_BIND,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  SyscallError,
} from './libc.ts'

// The entry of the kernel thread: the one thread of the process that may leave the host's namespaces.
// It enters others only inside a single call, and is back home before it answers.

const libc = loadLibc()
// A working directory of its own: see mountOverlay.
libc.unshare(CLONE_FS)
const FLAGS = { net: CLONE_NEWNET, ipc: CLONE_NEWIPC, uts: CLONE_NEWUTS } as const
const KINDS = ['net', 'ipc', 'uts'] as const
const home = KINDS.map((kind) => openSync(`/proc/thread-self/ns/${kind}`, 'r'))

function atHomeAfter<T>(work: () => T): T {
  try {
    return work()
  } finally {
    for (const fd of home) libc.setns(fd)
  }
}

function enter(namespaces: Namespaces): void {
  for (const kind of KINDS) {
    const path = namespaces[kind]
    if (path === undefined) continue
    const fd = openSync(path, 'r')
    try {
      libc.setns(fd)
    } finally {
      closeSync(fd)
    }
  }
}

function pin(request: PinRequest): void {
  const kinds = KINDS.filter((kind) => request.create[kind] !== undefined)
  const pinned: string[] = []
  try {
    atHomeAfter(() => {
      libc.unshare(kinds.reduce((flags, kind) => flags | FLAGS[kind], 0))
      if (request.create.net !== undefined) libc.loopbackUp()
      if (request.hostname !== undefined) libc.sethostname(request.hostname)
      if (request.enter) enter(request.enter)
      writeSysctls(request.sysctls ?? {})
      for (const kind of kinds) {
        const path = request.create[kind]
        if (path === undefined) continue
        closeSync(openSync(path, 'wx', 0o444))
        pinned.push(path)
        libc.mount(`/proc/thread-self/ns/${kind}`, path, null, MS_BIND, null)
      }
    })
  } catch (error) {
    for (const path of pinned) unpin(path)
    throw error
  }
}

/** `/proc/sys` shows the namespaces of the thread that opens a file in it. */
function writeSysctls(sysctls: Readonly<Record<string, string>>): void {
  for (const [key, value] of Object.entries(sysctls)) writeFileSync(`/proc/sys/${key.replaceAll('.', '/')}`, value)
}

const MAX_STACKED = 32

function unmount(path: string): void {
  // Several mounts may lie on one another; EINVAL says that none is left.
  for (let i = 0; i < MAX_STACKED; i++) {
    try {
      libc.umount(path, MNT_DETACH)
    } catch (error) {
      if (error instanceof SyscallError && (error.errno === 'EINVAL' || error.errno === 'ENOENT')) return
      throw error
    }
  }
  throw new Error(`unmount ${path}: there are more than ${MAX_STACKED} mounts on it`)
}

function unpin(path: string): void {
  unmount(path)
  try {
    unlinkSync(path)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}

function mountTmpfs(request: TmpfsRequest): void {
  mkdirSync(request.path, { recursive: true, mode: 0o755 })
  const data = `mode=${request.mode.toString(8)},size=${request.sizeBytes}`
  libc.mount('shm', request.path, 'tmpfs', MS_NOSUID | MS_NODEV | MS_NOEXEC, data)
}

/** The options of a mount are one page: layers are named from the directory in which they are. */
function mountOverlay({ path, lower, writable }: OverlayRequest): void {
  mkdirSync(path, { recursive: true, mode: 0o755 })
  const base = dirname(lower[0] ?? '/')
  const layers = lower.map((layer) => (dirname(layer) === base ? basename(layer) : layer))
  // A mount that nobody writes to wants two layers at least; what it is mounted on is empty.
  if (!writable && layers.length === 1) layers.push(path)
  const options = [`lowerdir=${layers.map(escapeOption).join(':')}`]
  // `volatile`: what a container writes need not survive a crash of the node, since the container does not.
  if (writable) {
    options.push(`upperdir=${escapeOption(writable.upper)}`, `workdir=${escapeOption(writable.work)}`, 'volatile')
  }
  libc.chdir(base)
  try {
    libc.mount('overlay', path, 'overlay', writable ? 0 : MS_RDONLY, options.join(','))
  } finally {
    libc.chdir('/')
  }
}

function escapeOption(path: string): string {
  return path.replaceAll(/[\\,:]/g, String.raw`\$&`)
}

const handlers: { readonly [M in keyof KernelCalls]: (argument: KernelCalls[M][0]) => KernelCalls[M][1] } = {
  pin,
  unpin,
  mountTmpfs,
  mountOverlay,
  readInRoot: (request) => readInRoot(libc, request),
  resolveInRoot: (request) => resolveInRoot(libc, request),
  makeDirectoryInRoot: (request) => makeDirectoryInRoot(libc, request),
  readInNetns: ({ netns, path }) =>
    atHomeAfter(() => {
      enter({ net: netns })
      return readFileSync(path, 'utf8')
    }),
  unmount,
  applySysctls: ({ namespaces, sysctls }) =>
    atHomeAfter(() => {
      enter(namespaces)
      writeSysctls(sysctls)
    }),
  addresses: (netns) =>
    atHomeAfter(() => {
      enter({ net: netns })
      return Object.values(networkInterfaces()).flatMap((all) =>
        (all ?? []).filter((a) => !a.internal && a.scopeid === undefined).map((a) => a.cidr ?? a.address),
      )
    }),
}

if (!parentPort) throw new Error('the kernel thread has no parent')
answerCalls(parentPort, (method, argument) => {
  const handler = (handlers as Record<string, ((argument: unknown) => unknown) | undefined>)[method]
  if (!handler) throw new Error(`the kernel thread has no call ${method}`)
  return handler(argument)
})
