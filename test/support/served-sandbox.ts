import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach } from 'vitest'
import { connectSandboxer } from '../../src/client/client.ts'
import type { CreateRequest, SandboxerConnection } from '../../src/client/types.ts'
import type { PodSandboxConfig } from '../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { runOk } from '../../src/host/programs/run.ts'
import type { TestDaemon } from './daemon.ts'

/** A front end of a daemon under test: what it asks for on sandboxer.sock, and the network namespaces that it makes itself. */
export class FrontEnd implements AsyncDisposable {
  readonly client: SandboxerConnection
  readonly daemon: TestDaemon
  readonly #netns: string[] = []

  constructor(daemon: TestDaemon) {
    this.daemon = daemon
    this.client = connectSandboxer({ address: join(daemon.dir, 'sandboxer.sock'), sandboxer: 'sbx' })
  }

  /** Where such a daemon shows the files of pods: what the configuration of {@link frontEndConfig} says. */
  static config(dir: string, more: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> {
    return { sandboxer: { front_end_root: join(dir, 'fe-root'), front_end_state: join(dir, 'fe-state'), ...more } }
  }

  /** The paths of a pod's files as containerd has them. */
  places(id: string): { readonly files: string; readonly shm: string } {
    const { dir } = this.daemon
    return { files: join(dir, 'fe-root', 'sandboxes', id), shm: join(dir, 'fe-state', 'sandboxes', id, 'shm') }
  }

  newId(): string {
    return this.daemon.track(randomBytes(32).toString('hex'))
  }

  /** What containerd sends for a pod on the node's network, which is the quickest kind. */
  request(config: PodSandboxConfig = this.daemon.hostPod(), netnsPath = ''): CreateRequest {
    return { id: this.newId(), config, netnsPath }
  }

  /** A network namespace as a front end pins it. */
  async netns(): Promise<string> {
    const name = `sbt-fe-${randomBytes(4).toString('hex')}`
    await runOk('ip', ['netns', 'add', name], { timeoutMs: 10_000 })
    this.#netns.push(name)
    return `/run/netns/${name}`
  }

  /** Creates and starts a sandbox, and returns its id. */
  async run(request: CreateRequest = this.request()): Promise<string> {
    await this.client.create(request)
    await this.client.start(request.id)
    return request.id
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.close()
    for (const name of this.#netns) {
      if (existsSync(`/run/netns/${name}`)) await runOk('ip', ['netns', 'delete', name], { timeoutMs: 10_000 })
    }
  }
}

/** Front ends for one test each. */
export function frontEnds(): (daemon: TestDaemon) => FrontEnd {
  const made: FrontEnd[] = []
  afterEach(async () => {
    for (const one of made.splice(0)) await one[Symbol.asyncDispose]()
  })
  return (daemon) => {
    const one = new FrontEnd(daemon)
    made.push(one)
    return one
  }
}
