import type { Socket } from 'node:net'
import { Kernel } from '../../src/host/kernel/kernel.ts'
import { connectLoopback } from '../../src/host/loopback.ts'
import type { StreamsWanted } from '../../src/executor/types.ts'
import type { TestDaemon } from './daemon.ts'
import {
  openPortForward,
  openRemoteCommand,
  type PortForwardClient,
  type RemoteCommandClient,
} from './streaming-client.ts'

export type Transport = 'spdy' | 'websocket'

type StreamHost = Pick<TestDaemon, 'client' | 'node'>

type Wanted = Partial<StreamsWanted> & { readonly tty?: boolean }

/** Sessions with a daemon under test, whose streaming server listens on the loopback of its node. */
export class DaemonStreams implements AsyncDisposable {
  readonly #daemon: () => StreamHost
  readonly #kernel = new Kernel({ timeoutMs: 10_000 })

  constructor(daemon: () => StreamHost) {
    this.#daemon = daemon
  }

  async exec(id: string, cmd: readonly string[], wanted: Wanted, transport: Transport): Promise<RemoteCommandClient> {
    const url = await this.#daemon().client.streamUrls.exec(id, cmd, wanted)
    return openRemoteCommand(url, { ...wanted, transport, socket: await this.connect(url) })
  }

  async attach(id: string, wanted: Wanted, transport: Transport): Promise<RemoteCommandClient> {
    const url = await this.#daemon().client.streamUrls.attach(id, wanted)
    return openRemoteCommand(url, { ...wanted, transport, socket: await this.connect(url) })
  }

  async portForward(sandboxId: string, transport: 'spdy' | 'tunnel'): Promise<PortForwardClient> {
    const url = await this.#daemon().client.streamUrls.portForward(sandboxId)
    return openPortForward(url, { transport, socket: await this.connect(url) })
  }

  /** A connection to the server of a URL. */
  async connect(url: string): Promise<Socket> {
    const to = { netns: `/run/netns/${this.#daemon().node}`, port: Number(new URL(url).port) }
    return connectLoopback(to, { kernel: this.#kernel }, AbortSignal.timeout(20_000))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#kernel[Symbol.asyncDispose]()
  }
}
