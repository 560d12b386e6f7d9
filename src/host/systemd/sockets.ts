import koffi from 'koffi'
import { CodedError } from '../../core/errors.ts'
import { errnoName, SyscallError } from '../libc.ts'

/** Linux constants (asm-generic; the same on amd64 and arm64). */
const AF_UNIX = 1
const SOCK_STREAM = 1
const SOL_SOCKET = 1
const SO_TYPE = 3
const SO_ACCEPTCONN = 30
const SOCK_DGRAM_CLOEXEC = 2 | 0x80000
const MSG_NOSIGNAL = 0x4000
const MSG_DONTWAIT = 0x40
/** struct sockaddr_un: family, path. */
const SUN_PATH = 2
const SUN_PATH_BYTES = 108

/** Where the service manager listens for what services have to say. */
export interface NotifySocket extends Disposable {
  /**
   * Sends one message: lines of `VARIABLE=value`. Waits for nothing: false when the manager has too much to read, and the
   * message is to be sent again.
   * @throws SyscallError when nobody listens any more.
   */
  send(message: string): boolean
}

/**
 * Opens the way to the service manager.
 * @param address a path, or `@` and the name of an abstract socket.
 * @throws CodedError `InvalidArgument` for an address that is too long.
 */
export function openNotifySocket(address: string): NotifySocket {
  const lib = koffi.load(null)
  const socket = lib.func('int socket(int, int, int)')
  const sendto = lib.func('long sendto(int, const void *, size_t, int, const void *, uint32_t)')
  const close = lib.func('int close(int)')
  const sockaddr = unixAddress(address)
  const fd = Number(socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0))
  if (fd < 0) throw new SyscallError('socket', 'AF_UNIX', errnoName(koffi.errno()))
  return {
    send: (message) => {
      const data = Buffer.from(message)
      const sent = Number(sendto(fd, data, data.length, MSG_NOSIGNAL | MSG_DONTWAIT, sockaddr, sockaddr.length))
      if (sent >= 0) return true
      const errno = errnoName(koffi.errno())
      if (errno === 'EAGAIN') return false
      throw new SyscallError('sendto', address, errno)
    },
    [Symbol.dispose]: () => void close(fd),
  }
}

/**
 * The path at which a Unix socket listens for streams; `''` for one without a path.
 * @throws CodedError `FailedPrecondition` for a descriptor that is anything else.
 */
export function listeningPathOf(fd: number): string {
  const lib = koffi.load(null)
  const getsockname = lib.func('int getsockname(int, void *, _Inout_ uint32_t *)')
  const getsockopt = lib.func('int getsockopt(int, int, int, _Out_ int *, _Inout_ uint32_t *)')
  const refuse = (why: string): CodedError =>
    new CodedError('FailedPrecondition', `look at the socket at descriptor ${fd}: ${why}`)
  const optionOf = (name: number): number => {
    const value: [number] = [0]
    if (Number(getsockopt(fd, SOL_SOCKET, name, value, [4])) < 0) throw refuse(errnoName(koffi.errno()))
    return value[0]
  }
  const sockaddr = Buffer.alloc(SUN_PATH + SUN_PATH_BYTES)
  const length: [number] = [sockaddr.length]
  if (Number(getsockname(fd, sockaddr, length)) < 0) throw refuse(errnoName(koffi.errno()))
  if (sockaddr.readUInt16LE() !== AF_UNIX) throw refuse('it is no Unix socket')
  // With Accept=yes, or another kind of socket than ListenStream=.
  if (optionOf(SO_TYPE) !== SOCK_STREAM || optionOf(SO_ACCEPTCONN) === 0) throw refuse('it does not listen for streams')
  return sockaddr.toString('utf8', SUN_PATH, Math.max(length[0], SUN_PATH)).split('\0', 1)[0] ?? ''
}

function unixAddress(address: string): Buffer {
  const isAbstract = address.startsWith('@')
  // The name of an abstract one ends with the address, a path with a zero.
  const path = Buffer.from(isAbstract ? `\0${address.slice(1)}` : `${address}\0`)
  if (path.length > SUN_PATH_BYTES) throw new CodedError('InvalidArgument', `socket ${address}: too long an address`)
  const family = Buffer.alloc(SUN_PATH)
  family.writeUInt16LE(AF_UNIX)
  return Buffer.concat([family, path])
}
