import { constants } from 'node:os'
import koffi from 'koffi'
import { CodedError } from '../core/errors.ts'
import { errnoName } from './libc.ts'

/** Linux constants (asm-generic; the same on amd64 and arm64). */
const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_SEQPACKET = 5
const SOCK_FLAGS = 0x80000 | 0x800
const MSG_NOSIGNAL = 0x4000
const MSG_CMSG_CLOEXEC = 0x40000000
const SOL_SOCKET = 1
const SCM_RIGHTS = 1
const SHUT_WR = 1
const F_SETFL = 4
const O_RDWR_NONBLOCK = 2 | 0x800
const EFD_FLAGS = 0x80000 | 0x800
const EPOLL_CLOEXEC = 0x80000
const EPOLL_CTL_ADD = 1
const EPOLL_CTL_DEL = 2
/** IN, OUT, RDHUP and ET: told once of every change. */
const EPOLL_EVENTS = 0x1 | 0x4 | 0x2000 | 0x80000000
/** ERR and HUP. */
const EPOLL_HANGUP = 0x8 | 0x10
/** `struct epoll_event` is packed on amd64 alone. */
const EPOLL_EVENT = process.arch === 'x64' ? { sizeBytes: 12, data: 4 } : { sizeBytes: 16, data: 8 }
const MAX_EVENTS = 64
const TCGETS = 0x5401
const TIOCSWINSZ = 0x5414
const FIONREAD = 0x541b
const TIOCGPTN = 0x80045430
/** `struct termios`: four flags of 32 bits, the line, the control characters; of them VEOF. */
const TERMIOS = { sizeBytes: 64, localFlags: 12, canonical: 2, endOfFile: 17 + 4 }
/** `struct sockaddr_un`. */
const SUN_PATH = 2
const SUN_PATH_BYTES = 108
/** `struct cmsghdr` with one descriptor. */
const CMSG = { sizeBytes: 24, lengthBytes: 20, level: 8, type: 12, fd: 16 }

/** The numbers of errors, as these calls return them: below 0. */
export const AGAIN = -constants.errno.EAGAIN
/** There was something that the other end had not read when it was closed. */
export const RESET = -constants.errno.ECONNRESET

export interface EpollEvent {
  readonly data: number
  /** Nothing can come from the other end any more, nor go there. */
  readonly isHungUp: boolean
}

/**
 * Calls on descriptors that Node.js cannot have as streams. None waits, but `epollWait`. Those that return a number return
 * a negative one, an error number, when they fail.
 */
export interface Descriptors {
  read(fd: number, buffer: Uint8Array): number
  write(fd: number, data: Uint8Array): number
  send(fd: number, data: Uint8Array): number
  receive(fd: number, buffer: Uint8Array): number
  /** Nobody hears of a socket that has been closed by the other end already. */
  shutdownWrite(fd: number): void
  setNonBlocking(fd: number): void
  /** Both ends of a pair of stream sockets, non-blocking and closed on exec. The caller closes them. */
  socketPair(): readonly [number, number]
  /** A listening stream socket at an absolute path of up to some 90 bytes. The caller closes it. */
  listen(path: string): number
  /** A connection to a SOCK_SEQPACKET socket, or the error number. The caller closes it. */
  connectPackets(path: string): number
  accept(fd: number): number
  /** A descriptor that somebody sends over a stream socket, or the error number; 0 when nothing comes any more. */
  receiveDescriptor(fd: number): number
  close(fd: number): void
  eventFd(): number
  epollCreate(): number
  /** Watches for everything, edge-triggered. @param data 32 bits, which {@link Descriptors.epollWait} returns. */
  epollAdd(epollFd: number, fd: number, data: number): void
  epollDelete(epollFd: number, fd: number): void
  /** Waits. @param timeoutMs -1 is for ever. */
  epollWait(epollFd: number, timeoutMs: number): readonly EpollEvent[]
  /** How much there is to read; 0 when nobody knows. */
  bytesReadable(fd: number): number
  /** Of a terminal, by its master. */
  setWindowSize(fd: number, size: { readonly width: number; readonly height: number }): void
  /** The character that ends the input of who reads lines from a terminal, by its master; null when it is not read in lines. */
  endOfFileCharacter(fd: number): number | null
  /** The number N of `/dev/pts/N`, by the master; null when it is none. */
  terminalNumber(fd: number): number | null
}

export function loadDescriptors(): Descriptors {
  const lib = koffi.load(null)
  const read = lib.func('long read(int, void *, size_t)')
  const write = lib.func('long write(int, const void *, size_t)')
  const send = lib.func('long send(int, const void *, size_t, int)')
  const recv = lib.func('long recv(int, void *, size_t, int)')
  const shutdown = lib.func('int shutdown(int, int)')
  const fcntl = lib.func('int fcntl(int, int, int)')
  const ioctl = lib.func('int ioctl(int, unsigned long, void *)')
  const close = lib.func('int close(int)')
  const eventfd = lib.func('int eventfd(unsigned int, int)')
  const orError = (result: number): number => (result < 0 ? -koffi.errno() : result)
  const check = (result: number, call: string): number => {
    if (result < 0) throw new CodedError('Internal', `${call}: ${errnoName(koffi.errno())}`)
    return result
  }
  return {
    read: (fd, buffer) => orError(Number(read(fd, buffer, buffer.length))),
    write: (fd, data) => orError(Number(write(fd, data, data.length))),
    send: (fd, data) => orError(Number(send(fd, data, data.length, MSG_NOSIGNAL))),
    receive: (fd, buffer) => orError(Number(recv(fd, buffer, buffer.length, 0))),
    shutdownWrite: (fd) => void shutdown(fd, SHUT_WR),
    setNonBlocking: (fd) => void check(fcntl(fd, F_SETFL, O_RDWR_NONBLOCK), 'fcntl'),
    close: (fd) => void close(fd),
    eventFd: () => check(eventfd(0, EFD_FLAGS), 'eventfd'),
    bytesReadable: (fd) => {
      const count = Buffer.alloc(4)
      return ioctl(fd, FIONREAD, count) === 0 ? count.readInt32LE() : 0
    },
    setWindowSize: (fd, { width, height }) => {
      // struct winsize: rows, columns, and the same in pixels.
      const size = Buffer.alloc(8)
      size.writeUInt16LE(height, 0)
      size.writeUInt16LE(width, 2)
      check(ioctl(fd, TIOCSWINSZ, size), 'ioctl TIOCSWINSZ')
    },
    endOfFileCharacter: (fd) => {
      const termios = Buffer.alloc(TERMIOS.sizeBytes)
      if (ioctl(fd, TCGETS, termios) !== 0) return null
      const isCanonical = (termios.readUInt32LE(TERMIOS.localFlags) & TERMIOS.canonical) !== 0
      return isCanonical ? termios.readUInt8(TERMIOS.endOfFile) : null
    },
    terminalNumber: (fd) => {
      const number = Buffer.alloc(4)
      return ioctl(fd, TIOCGPTN, number) === 0 ? number.readUInt32LE() : null
    },
    ...loadSockets(lib, check, orError, (fd) => void close(fd)),
    ...loadEpoll(lib, check),
  }
}

type Library = ReturnType<typeof koffi.load>
type Check = (result: number, call: string) => number
type Sockets = 'socketPair' | 'listen' | 'connectPackets' | 'accept' | 'receiveDescriptor'

function loadSockets(
  lib: Library,
  check: Check,
  orError: (result: number) => number,
  close: (fd: number) => void,
): Pick<Descriptors, Sockets> {
  const socket = lib.func('int socket(int, int, int)')
  const socketpair = lib.func('int socketpair(int, int, int, _Out_ int *)')
  const bind = lib.func('int bind(int, const void *, uint32_t)')
  const listen = lib.func('int listen(int, int)')
  const connect = lib.func('int connect(int, const void *, uint32_t)')
  const accept4 = lib.func('int accept4(int, void *, void *, int)')
  const iovec = koffi.struct({ base: 'void *', length: 'size_t' })
  const msghdr = koffi.struct({
    name: 'void *',
    nameLength: 'uint32_t',
    parts: koffi.pointer(iovec),
    partCount: 'size_t',
    control: 'void *',
    controlLength: 'size_t',
    flags: 'int',
  })
  const recvmsg = lib.func('recvmsg', 'long', ['int', koffi.inout(koffi.pointer(msghdr)), 'int'])
  return {
    socketPair: () => {
      const ends: [number, number] = [-1, -1]
      check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_FLAGS, 0, ends), 'socketpair')
      return ends
    },
    listen: (path) => {
      const address = unixAddress(path)
      const fd = check(socket(AF_UNIX, SOCK_STREAM | SOCK_FLAGS, 0), 'socket')
      const result = orError(bind(fd, address, address.length) || listen(fd, 1))
      if (result === 0) return fd
      close(fd)
      throw new CodedError('Internal', `listen at ${path}: ${errnoName(-result)}`)
    },
    connectPackets: (path) => {
      const address = unixAddress(path)
      const fd = check(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_FLAGS, 0), 'socket')
      const result = orError(connect(fd, address, address.length))
      if (result === 0) return fd
      close(fd)
      return result
    },
    accept: (fd) => orError(accept4(fd, null, null, SOCK_FLAGS)),
    receiveDescriptor: (fd) => {
      const control = Buffer.alloc(CMSG.sizeBytes)
      // The content of the message is the terminal's name, which nobody needs.
      const data = Buffer.alloc(256)
      const parts = [{ base: data, length: data.length }]
      const message = {
        name: null,
        nameLength: 0,
        parts,
        partCount: 1,
        control,
        controlLength: control.length,
        flags: 0,
      }
      const count = orError(Number(recvmsg(fd, message, MSG_CMSG_CLOEXEC)))
      if (count <= 0) return count
      const isDescriptor =
        control.readBigUInt64LE() === BigInt(CMSG.lengthBytes) &&
        control.readInt32LE(CMSG.level) === SOL_SOCKET &&
        control.readInt32LE(CMSG.type) === SCM_RIGHTS
      return isDescriptor ? control.readInt32LE(CMSG.fd) : 0
    },
  }
}

function loadEpoll(
  lib: Library,
  check: Check,
): Pick<Descriptors, 'epollCreate' | 'epollAdd' | 'epollDelete' | 'epollWait'> {
  const create = lib.func('int epoll_create1(int)')
  const control = lib.func('int epoll_ctl(int, int, int, void *)')
  const wait = lib.func('int epoll_wait(int, void *, int, int)')
  const events = Buffer.alloc(MAX_EVENTS * EPOLL_EVENT.sizeBytes)
  return {
    epollCreate: () => check(create(EPOLL_CLOEXEC), 'epoll_create1'),
    epollAdd: (epollFd, fd, data) => {
      const event = Buffer.alloc(EPOLL_EVENT.sizeBytes)
      event.writeUInt32LE(EPOLL_EVENTS >>> 0, 0)
      event.writeUInt32LE(data, EPOLL_EVENT.data)
      check(control(epollFd, EPOLL_CTL_ADD, fd, event), 'epoll_ctl')
    },
    // One that has been closed is not there any more.
    epollDelete: (epollFd, fd) => void control(epollFd, EPOLL_CTL_DEL, fd, null),
    epollWait: (epollFd, timeoutMs) => {
      // Interrupted by a signal, it has nothing to tell.
      const count = Math.max(wait(epollFd, events, MAX_EVENTS, timeoutMs), 0)
      return Array.from({ length: count }, (_, index) => {
        const offset = index * EPOLL_EVENT.sizeBytes
        const isHungUp = (events.readUInt32LE(offset) & EPOLL_HANGUP) !== 0
        return { data: events.readUInt32LE(offset + EPOLL_EVENT.data), isHungUp }
      })
    },
  }
}

/** @throws CodedError `InvalidArgument` for a path that is too long for an address. */
function unixAddress(path: string): Buffer {
  const length = Buffer.byteLength(path)
  if (length >= SUN_PATH_BYTES) throw new CodedError('InvalidArgument', `socket ${path}: too long a path`)
  const address = Buffer.alloc(SUN_PATH + length + 1)
  address.writeUInt16LE(AF_UNIX)
  address.write(path, SUN_PATH)
  return address
}
