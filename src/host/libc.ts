import koffi from 'koffi'
import { CodedError } from '../core/errors.ts'

/** Linux constants (asm-generic; the same on amd64 and arm64). */
export const CLONE_NEWUTS = 0x04000000
export const CLONE_NEWIPC = 0x08000000
export const CLONE_NEWNET = 0x40000000
export const MS_NOSUID = 2
export const MS_NODEV = 4
export const MS_NOEXEC = 8
export const MS_BIND = 4096
export const MNT_DETACH = 2
export const LOCK_EX = 2
export const LOCK_NB = 4
const AF_INET = 2
const SOCK_DGRAM_CLOEXEC = 2 | 0x80000
const SIOCSIFFLAGS = 0x8914
const IFF_UP_RUNNING = 0x1 | 0x40
const IFREQ_SIZE = 40
const IFREQ_FLAGS = 16
const SYS_PIDFD_SEND_SIGNAL = 424
const SYS_PIDFD_OPEN = 434

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
  sethostname(name: string): void
  /** Brings the interface `lo` of the calling thread's network namespace up. */
  loopbackUp(): void
  flock(fd: number, operation: number): void
  /** A descriptor that means this very process, also when its pid is used again; the caller closes it. */
  pidfdOpen(pid: number): number
  pidfdSendSignal(pidfd: number, signal: number): void
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
  const syscall = lib.func('long syscall(long, long, long, void *, long)')
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
    flock: (fd, operation) => void check(flock(fd, operation), 'flock', fd),
    pidfdOpen: (pid) => check(Number(syscall(SYS_PIDFD_OPEN, pid, 0, null, 0)), 'pidfd_open', pid),
    pidfdSendSignal: (pidfd, signal) =>
      void check(Number(syscall(SYS_PIDFD_SEND_SIGNAL, pidfd, signal, null, 0)), 'pidfd_send_signal', signal),
  }
}

function errnoName(errno: number): string {
  const name = Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0]
  return name ?? `errno ${errno}`
}
