import { closeSync, constants, fstatSync, lchownSync, mkdirSync, openSync, readlinkSync, readSync } from 'node:fs'
import { CodedError } from '../../core/errors.ts'
import type { DirectoryInRoot, FileInRoot } from './kernel.ts'
import { type Libc, O_PATH, SyscallError } from '../libc.ts'

// Files below a root that an image or a container fills, where every name may be a link that leads out. For the kernel
// thread: all of it is synchronous.

/** FIFOs and devices are opened without waiting for anybody, and without becoming our terminal. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY

export function readInRoot(libc: Libc, { root, path, maxBytes }: FileInRoot): string | null {
  return inRoot(libc, root, path, OPEN_FLAGS, (fd) => {
    const stats = fstatSync(fd)
    if (!stats.isFile()) throw new CodedError('FailedPrecondition', `read ${path} of the image: it is no regular file`)
    const buffer = Buffer.alloc(Math.min(stats.size, maxBytes) + 1)
    let length = 0
    for (let read = -1; read !== 0 && length < buffer.length; length += read) {
      read = readSync(fd, buffer, length, buffer.length - length, null)
    }
    if (stats.size > maxBytes || length > maxBytes) {
      throw new CodedError('FailedPrecondition', `read ${path} of the image: it has more than ${maxBytes} bytes`)
    }
    return buffer.toString('utf8', 0, length)
  })
}

export function resolveInRoot(libc: Libc, { root, path }: { root: string; path: string }): string {
  const found = inRoot(libc, root, path, O_PATH, (fd) => readlinkSync(`/proc/thread-self/fd/${fd}`))
  if (found === null) throw new CodedError('NotFound', `look up ${path} in the image: there is none`)
  return found
}

export function makeDirectoryInRoot(libc: Libc, { root, path, owner }: DirectoryInRoot): void {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.')
  for (let depth = 1; depth <= parts.length; depth++) {
    const exists = inRoot(libc, root, `/${parts.slice(0, depth).join('/')}`, O_PATH | constants.O_DIRECTORY, () => true)
    if (exists) continue
    inRoot(libc, root, `/${parts.slice(0, depth - 1).join('/')}`, O_PATH | constants.O_DIRECTORY, (parent) => {
      const made = `/proc/thread-self/fd/${parent}/${parts[depth - 1] ?? ''}`
      mkdirSync(made, { mode: 0o755 })
      if (owner) lchownSync(made, owner.uid, owner.gid)
    })
  }
}

function inRoot<T>(libc: Libc, root: string, path: string, flags: number, work: (fd: number) => T): T | null {
  const rootFd = openSync(root, O_PATH | constants.O_DIRECTORY)
  try {
    const fd = libc.openInRoot(rootFd, path, flags)
    try {
      return work(fd)
    } finally {
      libc.close(fd)
    }
  } catch (error) {
    if (error instanceof SyscallError && error.errno === 'ENOENT') return null
    throw error
  } finally {
    closeSync(rootFd)
  }
}
