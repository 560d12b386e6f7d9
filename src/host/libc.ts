import koffi from 'koffi'
import { CodedError } from '../core/errors.ts'

/** Linux constants (asm-generic; the same on amd64 and arm64). */
export const CLONE_FS = 0x00000200
export const CLONE_NEWUTS = 0x04000000
export const CLONE_NEWIPC = 0x08000000
export const CLONE_NEWNET = 0x40000000
export const MS_RDONLY = 1
export const MS_NOSUID = 2
export const MS_NODEV = 4
export const MS_NOEXEC = 8
export const MS_BIND = 4096
export const MS_PRIVATE = 1 << 18
export const MNT_DETACH = 2
export const LOCK_EX = 2
export const LOCK_NB = 4
export const O_PATH = 0x200000
const AF_INET = 2
const AF_INET6 = 10
const SOCK_DGRAM_CLOEXEC = 2 | 0x80000
/** SOCK_STREAM, SOCK_NONBLOCK and SOCK_CLOEXEC. */
const SOCK_STREAM_ASYNC = 1 | 0x800 | 0x80000
const SIOCSIFFLAGS = 0x8914
const IFF_UP_RUNNING = 0x1 | 0x40
const IFREQ_SIZE = 40
const IFREQ_FLAGS = 16
const O_RDWR = 2
const O_CLOEXEC = 0x80000
const WNOHANG = 1
/** SETSIGDEF, SETSIGMASK and SETSID of spawn.h. */
const SPAWN_FLAGS = 0x04 | 0x08 | 0x80
/** More than glibc and musl need for a posix_spawnattr_t, a posix_spawn_file_actions_t and a sigset_t. */
const OPAQUE_SIZE = 512
const SIGSET_SIZE = 128
const SYS_PIDFD_SEND_SIGNAL = 424
const SYS_PIDFD_OPEN = 434
const SYS_CLOSE_RANGE = 436
const SYS_OPENAT2 = 437
/** RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS of openat2.h. */
const RESOLVE_IN_ROOT = 0x10 | 0x02
const CLOSE_RANGE_CLOEXEC = 4
const SYS_OPEN_TREE = 428
const SYS_MOVE_MOUNT = 429
const SYS_MOUNT_SETATTR = 442
const AT_FDCWD = -100
const AT_EMPTY_PATH = 0x1000
const OPEN_TREE_CLONE = 1
const MOVE_MOUNT_F_EMPTY_PATH = 4
const MOUNT_ATTR_IDMAP = 0x100000

/** A system call that failed; `errno` is its name, e.g. `EBUSY`. */
export class SyscallError extends CodedError {
  override readonly name = 'SyscallError'
  readonly errno: string

  constructor(call: string, subject: string, errno: string) {
    super('Internal', `${call} ${subject}: ${errno}`)
    this.errno = errno
  }
}

/**
 * The few C functions that Node.js lacks. Each call runs on the thread it is called from and returns at once;
 * those that change the thread's namespaces are for the kernel thread alone.
 */
export interface Libc {
  unshare(flags: number): void
  setns(fd: number): void
  mount(source: string, target: string, type: string | null, flags: number, data: string | null): void
  umount(target: string, flags: number): void
  /**
   * A copy of what is mounted at a path, as the root of a mount that nobody sees. It goes with the descriptor, which the
   * caller closes, unless it was moved to somewhere.
   */
  openTree(path: string): number
  /** Makes a mount from {@link openTree} show its files as owned by whom a user namespace makes of their owners. */
  mapMountIds(treeFd: number, usernsFd: number): void
  /** Mounts what {@link openTree} has opened at a path. */
  moveMount(treeFd: number, target: string): void
  /**
   * Opens a path as a process would for which `rootFd` is `/`: neither `..` nor a link leads out of it. Closed on exec;
   * the caller closes it.
   */
  openInRoot(rootFd: number, path: string, flags: number): number
  /** Closes a descriptor that one of these functions made, on a worker thread, where Node.js counts only its own. */
  close(fd: number): void
  /** Changes the working directory of the calling thread, which shares none with others (CLONE_FS). */
  chdir(path: string): void
  sethostname(name: string): void
  /** Brings the interface `lo` of the calling thread's network namespace up. */
  loopbackUp(): void
  /** A TCP socket of the calling thread's network namespace, not connected and not blocking. The caller closes it. */
  tcpSocket(family: 4 | 6): number
  flock(fd: number, operation: number): void
  /** Makes a FIFO. @throws SyscallError `EEXIST` when something is there. */
  mkfifo(path: string, mode: number): void
  /** A descriptor that means this very process, also when its pid is used again; the caller closes it. */
  pidfdOpen(pid: number): number
  pidfdSendSignal(pidfd: number, signal: number): void
  /** Keeps every descriptor from this one on, whoever opened it and how, from the programs that we start. */
  closeOnExecFrom(fd: number): void
  /** The read end and the write end of a pipe, both closed on exec. The caller closes them. */
  pipe(): readonly [readEnd: number, writeEnd: number]
  /**
   * Starts a program in a session of its own, with default signals and nothing but the given environment and
   * descriptors, and returns its pid. The caller reaps it with {@link Libc.reap}.
   *
   * Unlike fork, this copies no page tables: a fraction of a millisecond instead of several for a process of our size.
   */
  spawn(program: SpawnRequest): number
  /** How a child that {@link Libc.spawn} started has ended, once; null while it runs. */
  reap(pid: number): WaitStatus | null
}

/** One of the two is undefined. */
export interface WaitStatus {
  readonly exitCode: number | undefined
  /** The number of the signal that ended it. */
  readonly signal: number | undefined
}

export interface SpawnRequest {
  readonly file: string
  readonly args: readonly string[]
  /** `NAME=value`. */
  readonly env: readonly string[]
  /** What the program finds at descriptors 0, 1, …: one of ours, or null for /dev/null. */
  readonly fds: readonly (number | null)[]
  /** Its working directory; `/` by default. */
  readonly cwd?: string
}

export function loadLibc(): Libc {
  const lib = koffi.load(null)
  const unshare = lib.func('int unshare(int)')
  const setns = lib.func('int setns(int, int)')
  const mount = lib.func('int mount(const char *, const char *, const char *, unsigned long, const char *)')
  const umount2 = lib.func('int umount2(const char *, int)')
  const sethostname = lib.func('int sethostname(const char *, size_t)')
  const socket = lib.func('int socket(int, int, int)')
  const ioctl = lib.func('int ioctl(int, unsigned long, void *)')
  const close = lib.func('int close(int)')
  const flock = lib.func('int flock(int, int)')
  const mkfifo = lib.func('int mkfifo(const char *, unsigned int)')
  const syscall = lib.func('long syscall(long, long, long, void *, long)')
  const openat2 = lib.func('long syscall(long, int, const char *, void *, size_t)')
  const chdir = lib.func('int chdir(const char *)')
  const openTree = lib.func('long syscall(long, int, const char *, unsigned int)')
  const moveMount = lib.func('long syscall(long, int, const char *, int, const char *, unsigned int)')
  const mountSetattr = lib.func('long syscall(long, int, const char *, unsigned int, void *, size_t)')
  const closeRange = lib.func('long syscall(long, unsigned int, unsigned int, int)')
  const check = (result: number, call: string, subject: string | number): number => {
    if (result < 0) throw new SyscallError(call, String(subject), errnoName(koffi.errno()))
    return result
  }
  return {
    unshare: (flags) => void check(unshare(flags), 'unshare', `0x${flags.toString(16)}`),
    setns: (fd) => void check(setns(fd, 0), 'setns', fd),
    mount: (source, target, type, flags, data) =>
      void check(mount(source, target, type, flags, data), 'mount', `${source} on ${target}`),
    umount: (target, flags) => void check(umount2(target, flags), 'umount', target),
    openTree: (path) =>
      check(Number(openTree(SYS_OPEN_TREE, AT_FDCWD, path, OPEN_TREE_CLONE | O_CLOEXEC)), 'open_tree', path),
    mapMountIds: (treeFd, usernsFd) => {
      // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
      const attributes = Buffer.alloc(32)
      attributes.writeBigUInt64LE(BigInt(MOUNT_ATTR_IDMAP), 0)
      attributes.writeBigUInt64LE(BigInt(usernsFd), 24)
      const result = mountSetattr(SYS_MOUNT_SETATTR, treeFd, '', AT_EMPTY_PATH, attributes, attributes.length)
      check(Number(result), 'mount_setattr', 'MOUNT_ATTR_IDMAP')
    },
    moveMount: (treeFd, target) =>
      void check(
        Number(moveMount(SYS_MOVE_MOUNT, treeFd, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)),
        'move_mount',
        target,
      ),
    openInRoot: (rootFd, path, flags) => {
      // struct open_how: flags, mode, resolve.
      const how = Buffer.alloc(24)
      how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0)
      how.writeBigUInt64LE(BigInt(RESOLVE_IN_ROOT), 16)
      return check(Number(openat2(SYS_OPENAT2, rootFd, path, how, how.length)), 'openat2', path)
    },
    close: (fd) => void close(fd),
    chdir: (path) => void check(chdir(path), 'chdir', path),
    sethostname: (name) => void check(sethostname(name, Buffer.byteLength(name)), 'sethostname', name),
    loopbackUp: () => {
      const fd = check(socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'socket', 'AF_INET')
      try {
        const ifreq = Buffer.alloc(IFREQ_SIZE)
        ifreq.write('lo')
        ifreq.writeUInt16LE(IFF_UP_RUNNING, IFREQ_FLAGS)
        check(ioctl(fd, SIOCSIFFLAGS, ifreq), 'ioctl SIOCSIFFLAGS', 'lo')
      } finally {
        close(fd)
      }
    },
    tcpSocket: (family) =>
      check(socket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM_ASYNC, 0), 'socket', `IPv${family}`),
    flock: (fd, operation) => void check(flock(fd, operation), 'flock', fd),
    mkfifo: (path, mode) => void check(mkfifo(path, mode), 'mkfifo', path),
    closeOnExecFrom: (fd) =>
      void check(Number(closeRange(SYS_CLOSE_RANGE, fd, 0xffffffff, CLOSE_RANGE_CLOEXEC)), 'close_range', fd),
    ...loadSpawn(lib, check),
    pidfdOpen: (pid) => check(Number(syscall(SYS_PIDFD_OPEN, pid, 0, null, 0)), 'pidfd_open', pid),
    pidfdSendSignal: (pidfd, signal) =>
      void check(Number(syscall(SYS_PIDFD_SEND_SIGNAL, pidfd, signal, null, 0)), 'pidfd_send_signal', signal),
  }
}

type Check = (result: number, call: string, subject: string | number) => number

function loadSpawn(lib: ReturnType<typeof koffi.load>, check: Check): Pick<Libc, 'pipe' | 'spawn' | 'reap'> {
  const pipe2 = lib.func('int pipe2(_Out_ int *, int)')
  const waitpid = lib.func('int waitpid(int, _Out_ int *, int)')
  const posixSpawn = lib.func(
    'int posix_spawn(_Out_ int *, const char *, void *, void *, const char **, const char **)',
  )
  const attrInit = lib.func('int posix_spawnattr_init(void *)')
  const attrDestroy = lib.func('int posix_spawnattr_destroy(void *)')
  const attrSetFlags = lib.func('int posix_spawnattr_setflags(void *, short)')
  const attrSetSigDefault = lib.func('int posix_spawnattr_setsigdefault(void *, const void *)')
  const attrSetSigMask = lib.func('int posix_spawnattr_setsigmask(void *, const void *)')
  const actionsInit = lib.func('int posix_spawn_file_actions_init(void *)')
  const actionsDestroy = lib.func('int posix_spawn_file_actions_destroy(void *)')
  const addChdir = lib.func('int posix_spawn_file_actions_addchdir_np(void *, const char *)')
  const addOpen = lib.func('int posix_spawn_file_actions_addopen(void *, int, const char *, int, uint32_t)')
  const addDup = lib.func('int posix_spawn_file_actions_adddup2(void *, int, int)')
  const everySignal = Buffer.alloc(SIGSET_SIZE, 0xff)
  const noSignal = Buffer.alloc(SIGSET_SIZE)
  return {
    pipe: () => {
      const ends: [number, number] = [-1, -1]
      check(pipe2(ends, O_CLOEXEC), 'pipe2', '')
      return ends
    },
    spawn: ({ file, args, env, fds, cwd }) => {
      const attr = Buffer.alloc(OPAQUE_SIZE)
      const actions = Buffer.alloc(OPAQUE_SIZE)
      attrInit(attr)
      actionsInit(actions)
      try {
        attrSetFlags(attr, SPAWN_FLAGS)
        attrSetSigDefault(attr, everySignal)
        attrSetSigMask(attr, noSignal)
        addChdir(actions, cwd ?? '/')
        for (const [target, fd] of fds.entries()) {
          if (fd === null) addOpen(actions, target, '/dev/null', O_RDWR, 0)
          else addDup(actions, fd, target)
        }
        const pid: [number] = [0]
        // posix_spawn returns the error number instead of setting errno.
        const errno = Number(posixSpawn(pid, file, actions, attr, [file, ...args, null], [...env, null]))
        if (errno !== 0) throw new SyscallError('posix_spawn', file, errnoName(errno))
        return pid[0]
      } finally {
        attrDestroy(attr)
        actionsDestroy(actions)
      }
    },
    reap: (pid) => {
      const status: [number] = [0]
      if (check(waitpid(pid, status, WNOHANG), 'waitpid', pid) === 0) return null
      const signal = status[0] & 0x7f
      return signal === 0 ? { exitCode: (status[0] >> 8) & 0xff, signal: undefined } : { exitCode: undefined, signal }
    },
  }
}

/** The name of an error number, e.g. `EBUSY`. */
export function errnoName(errno: number): string {
  const name = Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0]
  return name ?? `errno ${errno}`
}
