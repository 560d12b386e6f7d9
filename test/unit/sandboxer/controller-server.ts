import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { credentials } from '@grpc/grpc-js'
import { pino } from 'pino'
import { afterEach } from 'vitest'
import { invalidField } from '../../../src/core/errors.ts'
import { loadCri, loadSandboxApi } from '../../../src/grpc/load.ts'
import { GrpcServer } from '../../../src/grpc/server.ts'
import { controllerService } from '../../../src/sandboxer/controller-service.ts'
import { Waits } from '../../../src/sandboxer/waits.ts'
import { FakeServed } from '../../support/fake-served.ts'

export const { Controller } = loadSandboxApi().containerd.services.sandbox.v1
export const { PodSandboxConfig } = loadCri().runtime.v1
const logger = pino({ level: 'silent' })

/** The Controller service over a real socket, before sandboxes in memory. */
export class ControllerServer implements AsyncDisposable {
  readonly sandboxes = new FakeServed()
  readonly waits = new Waits()
  readonly client: InstanceType<typeof Controller>
  readonly #dir: string
  readonly #server: GrpcServer

  private constructor(dir: string) {
    this.#dir = dir
    const socketPath = join(dir, 's.sock')
    this.#server = new GrpcServer({ socketPath, mode: 0o600, group: '' }, { logger })
    const service = controllerService(
      { defaultShim: 'io.containerd.runc.v2', eventsAddress: '/run/events.ttrpc' },
      {
        sandboxes: this.sandboxes,
        codec: PodSandboxConfig,
        validateConfig: ({ metadata }) => {
          if (!metadata?.name) throw invalidField('config.metadata.name', 'must not be empty')
        },
        selinuxLabel: () => 'u:r:t:s0',
        metrics: async (id) => {
          await this.sandboxes.status(id)
          return { type_url: 'io.containerd.cgroups.v1.Metrics', value: Buffer.from([1]) }
        },
        waits: this.waits,
        logger,
      },
    )
    this.#server.addService(Controller.service, service)
    this.client = new Controller(`unix:${socketPath}`, credentials.createInsecure())
  }

  static async start(): Promise<ControllerServer> {
    const one = new ControllerServer(await mkdtemp(join(tmpdir(), 'sbx-ctl-')))
    await one.#server.listen()
    return one
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.close()
    this.waits[Symbol.dispose]()
    await this.#server.close(1000)
    await rm(this.#dir, { recursive: true })
  }
}

/** Servers for one test each. */
export function controllerServers(): () => Promise<ControllerServer> {
  const made: ControllerServer[] = []
  afterEach(async () => {
    for (const one of made.splice(0)) await one[Symbol.asyncDispose]()
  })
  return async () => {
    const one = await ControllerServer.start()
    made.push(one)
    return one
  }
}
