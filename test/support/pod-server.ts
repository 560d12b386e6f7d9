import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'

const SCRIPT = `
const [host, port, backlog] = process.argv.slice(1)
const server = require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => socket.destroy())
  socket.once('data', (first) => {
    if (String(first) === 'reset me') return socket.resetAndDestroy()
    socket.write(first)
    socket.pipe(socket)
  })
  socket.once('end', () => socket.end())
})
server.listen({ host, port: Number(port), backlog: Number(backlog) }, () => console.log(server.address().port))
`

/** A server in a network namespace that sends back what it gets, to the end. To `reset me` it answers with a reset. */
export class PodServer implements AsyncDisposable {
  readonly port: number
  readonly #process: ChildProcess

  private constructor(port: number, child: ChildProcess) {
    this.port = port
    this.#process = child
  }

  /** @param netns where the namespace is pinned; null is that of the test. */
  static async start(netns: string | null, host: string, backlog = 511): Promise<PodServer> {
    const command = [process.execPath, '-e', SCRIPT, host, '0', String(backlog)]
    const [file = '', ...args] = netns === null ? command : ['nsenter', `--net=${netns}`, '--', ...command]
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const [port] = (await once(child.stdout, 'data')) as [Buffer]
    return new PodServer(Number(port), child)
  }

  /** It accepts nobody any more: the kernel does, until the backlog is full, and then drops what comes. */
  stall(): void {
    this.#process.kill('SIGSTOP')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await ended
  }
}
