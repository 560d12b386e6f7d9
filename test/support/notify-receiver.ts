import { setTimeout as sleep } from 'node:timers/promises'
import koffi from 'koffi'
import { slowed } from './slowness.ts'

const AF_UNIX = 1
const SOCK_DGRAM_CLOEXEC = 2 | 0x80000
const MSG_DONTWAIT = 0x40
const PATIENCE_MS = 10_000

/** What a service manager is to its services: a datagram socket (which Node.js has none of) that notes what they send. */
export class NotifyReceiver implements Disposable {
  readonly address: string
  readonly #fd: number
  readonly #close: (fd: number) => unknown
  readonly #receive: () => string | undefined
  readonly #messages: string[] = []

  /** @param address a path, or `@` and the name of an abstract socket. */
  constructor(address: string) {
    this.address = address
    const lib = koffi.load(null)
    const bind = lib.func('int bind(int, const void *, uint32_t)')
    const recv = lib.func('long recv(int, void *, size_t, int)')
    this.#close = lib.func('int close(int)')
    this.#fd = Number(lib.func('int socket(int, int, int)')(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0))
    const name = address.startsWith('@') ? `\0${address.slice(1)}` : `${address}\0`
    const sockaddr = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(name)])
    if (bind(this.#fd, sockaddr, sockaddr.length) !== 0) throw new Error(`bind ${address}: errno ${koffi.errno()}`)
    const data = Buffer.alloc(4096)
    this.#receive = () => {
      const length = Number(recv(this.#fd, data, data.length, MSG_DONTWAIT))
      return length < 0 ? undefined : data.toString('utf8', 0, length)
    }
  }

  /** All that came so far. */
  messages(): readonly string[] {
    for (let message = this.#receive(); message !== undefined; message = this.#receive()) this.#messages.push(message)
    return this.#messages
  }

  /** How many messages have a line that begins so. */
  count(line: string): number {
    return this.messages().filter((message) => message.split('\n').some((found) => found.startsWith(line))).length
  }

  /** Resolves when a line that begins so has come, or has come so many times. */
  async told(line: string, times = 1): Promise<void> {
    const end = performance.now() + slowed(PATIENCE_MS)
    while (this.count(line) < times) {
      if (performance.now() > end) throw new Error(`not told ${line}; only ${JSON.stringify(this.#messages)}`)
      await sleep(20)
    }
  }

  [Symbol.dispose](): void {
    this.#close(this.#fd)
  }
}
