import { closeSync, mkdirSync, openSync, readFileSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { parentPort } from 'node:worker_threads'
import { errnoOf } from '../../core/errors.ts'
import { answerCalls } from '../../core/thread.ts'
import { makeDirectoryInRoot, readInRoot, resolveInRoot } from './in-root.ts'
import type { KernelCalls, Namespaces, PinRequest, TmpfsRequest, UsernsRequest } from './kernel.ts'
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
  SyscallError,
} from '../libc.ts'
import { withNewNamespaces } from './namespace-program.ts'
import { mountOverlay } from './overlay.ts'

// The entry of the kernel thread: the one thread of the process that may leave the host's namespaces.
// It enters others only inside a single call, and is back home before it answers.

const libc = loadLibc()
// A working directory of its own: see overlay.ts.
libc.unshare(CLONE_FS)
const FLAGS = { net: CLONE_NEWNET, ipc: CLONE_NEWIPC, uts: CLONE_NEWUTS } as const
const KINDS = ['net', 'ipc', 'uts'] as const
type Kind = (typeof KINDS)[number]
/** Any but 0. */
const TRIED_ID = 65_536
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
      enterNew(kinds, request)
      if (request.create.net !== undefined) libc.loopbackUp()
      if (request.hostname !== undefined) libc.sethostname(request.hostname)
      for (const kind of kinds) {
        const path = request.create[kind]
        if (path === undefined) continue
        bindNew(`/proc/thread-self/ns/${kind}`, path, pinned)
      }
    })
  } catch (error) {
    for (const path of pinned) unpin(path)
    throw error
  }
}

/** Makes namespaces and goes there. `unshare` would have them owned by the user namespace of the thread. */
function enterNew(kinds: readonly Kind[], { userns, enter: others = {}, sysctls = {} }: PinRequest): void {
  if (userns === undefined) {
    libc.unshare(kinds.reduce((flags, kind) => flags | FLAGS[kind], 0))
    enter(others)
    writeSysctls(sysctls)
    return
  }
  const named = Object.entries(sysctls).map(([key, value]) => [sysctlPath(key), value] as const)
  withNewNamespaces(libc, { owner: userns, kinds, net: others.net, sysctls: named }, (pid) => {
    enter(Object.fromEntries(kinds.map((kind) => [kind, `/proc/${pid}/ns/${kind}`])))
  })
}

function pinUserns({ path, uids, gids }: UsernsRequest): void {
  const pinned: string[] = []
  try {
    withNewNamespaces(libc, 'user', (pid) => {
      writeFileSync(`/proc/${pid}/uid_map`, mapText(uids))
      writeFileSync(`/proc/${pid}/gid_map`, mapText(gids))
      bindNew(`/proc/${pid}/ns/user`, path, pinned)
    })
  } catch (error) {
    for (const made of pinned) unpin(made)
    throw error
  }
}

function tryUserns(directory: string): void {
  const at = (name: string): string => join(directory, name)
  const clear = (): void => {
    unmount(at('merged'))
    unpin(at('user'))
    rmSync(directory, { recursive: true, force: true })
  }
  // What one that was killed has left.
  clear()
  try {
    for (const name of ['lower/file', 'upper', 'work']) mkdirSync(at(name), { recursive: true, mode: 0o700 })
    const ids = [{ containerID: 0, hostID: TRIED_ID, size: 1 }]
    pinUserns({ path: at('user'), uids: ids, gids: ids })
    const writable = { upper: at('upper'), work: at('work') }
    mountOverlay(libc, { path: at('merged'), lower: [at('lower')], writable, userns: at('user') })
    const { uid } = statSync(at('merged/file'))
    if (uid !== TRIED_ID) throw new Error(`try a mount with the ids of a user namespace: root is ${uid} in it`)
  } finally {
    clear()
  }
}

function mapText(ids: UsernsRequest['uids']): string {
  return ids.map(({ containerID, hostID, size }) => `${containerID} ${hostID} ${size}\n`).join('')
}

/** @param made gets the path as soon as there is something to take back. */
function bindNew(namespace: string, path: string, made: string[]): void {
  closeSync(openSync(path, 'wx', 0o444))
  made.push(path)
  libc.mount(namespace, path, null, MS_BIND, null)
}

/** `/proc/sys` shows the namespaces of the thread that opens a file in it. */
function writeSysctls(sysctls: Readonly<Record<string, string>>): void {
  for (const [key, value] of Object.entries(sysctls)) writeFileSync(`/proc/sys/${sysctlPath(key)}`, value)
}

function sysctlPath(key: string): string {
  return key.replaceAll('.', '/')
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
  const { uid, gid } = request.owner ?? { uid: 0, gid: 0 }
  const data = `mode=${request.mode.toString(8)},size=${request.sizeBytes},uid=${uid},gid=${gid}`
  libc.mount('shm', request.path, 'tmpfs', MS_NOSUID | MS_NODEV | MS_NOEXEC, data)
}

function tcpSocket({ netns, family }: KernelCalls['tcpSocket'][0]): number {
  let fd: number | undefined
  try {
    return atHomeAfter(() => {
      enter({ net: netns })
      fd = libc.tcpSocket(family)
      return fd
    })
  } catch (error) {
    if (fd !== undefined) libc.close(fd)
    throw error
  }
}

const handlers: { readonly [M in keyof KernelCalls]: (argument: KernelCalls[M][0]) => KernelCalls[M][1] } = {
  pin,
  pinUserns,
  tryUserns,
  unpin,
  mountTmpfs,
  bindMount: ({ source, path }) => libc.mount(source, path, null, MS_BIND, null),
  mountOverlay: (request) => mountOverlay(libc, request),
  readInRoot: (request) => readInRoot(libc, request),
  resolveInRoot: (request) => resolveInRoot(libc, request),
  makeDirectoryInRoot: (request) => makeDirectoryInRoot(libc, request),
  readInNetns: ({ netns, path }) =>
    atHomeAfter(() => {
      enter({ net: netns })
      return readFileSync(path, 'utf8')
    }),
  tcpSocket,
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
