import koffi from 'koffi'

const AF_UNIX = 1
const SOCK_STREAM_CLOEXEC = 1 | 0x80000

/** A listening socket as a service manager holds it: it goes on while nobody serves it. */
export class HeldSocket implements Disposable {
  readonly path: string
  readonly fd: number
  readonly #dup: (fd: number) => number
  readonly #close: (fd: number) => unknown

  constructor(path: string) {
    this.path = path
    const lib = koffi.load(null)
    this.#dup = lib.func('int dup(int)')
    this.#close = lib.func('int close(int)')
    this.fd = Number(lib.func('int socket(int, int, int)')(AF_UNIX, SOCK_STREAM_CLOEXEC, 0))
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(`${path}\0`)])
    const isListening =
      lib.func('int bind(int, const void *, uint32_t)')(this.fd, address, address.length) === 0 &&
      lib.func('int listen(int, int)')(this.fd, 128) === 0
    if (!isListening) throw new Error(`listen on ${path}: errno ${koffi.errno()}`)
  }

  /** What one daemon gets, and closes. */
  handOver(): number {
    return this.#dup(this.fd)
  }

  [Symbol.dispose](): void {
    this.#close(this.fd)
  }
}
