import type { Config } from '../config/config.ts'
import { containersDir } from '../container/paths.ts'
import type { CleanupStack } from '../core/cleanup.ts'
import type { Observer } from '../core/observer.ts'
import { imageService } from '../cri/image-service.ts'
import { runtimeService, servedContract } from '../cri/runtime-service.ts'
import type { Contracts } from '../grpc/load.ts'
import { GrpcServer } from '../grpc/server.ts'
import type { Waits } from '../sandboxer/waits.ts'
import type { StreamingServer } from '../streaming/server.ts'
import type { Logs } from '../telemetry/logs.ts'
import type { ActivatedSockets } from './service/activation.ts'
import type { Node } from './node.ts'
import type { NodeHealth } from './health/node-health.ts'
import { openSandboxer } from './parts/sandboxer.ts'

export interface FrontServersDeps {
  readonly node: Node
  readonly health: NodeHealth
  readonly streaming: StreamingServer
  readonly contracts: Contracts
  readonly observer: Observer
  readonly logs: Logs
  readonly version: string
  readonly activated: ActivatedSockets
  readonly parts: CleanupStack
}

/** The gRPC servers of the front ends: one for the CRI, one for the sandbox API. */
export class FrontServers {
  readonly #servers: readonly GrpcServer[]
  readonly #waits: Waits

  constructor(config: Config, deps: FrontServersDeps) {
    const { contracts, node, observer, parts } = deps
    const logger = deps.logs.of('grpc')
    const [cri, sandboxer] = [config.cri, config.sandboxer].map(
      ({ socket, mode, group }) =>
        new GrpcServer({ socketPath: socket, mode, group, fd: deps.activated.get(socket) }, { logger }),
    ) as [GrpcServer, GrpcServer]
    this.#servers = [cri, sandboxer]
    const { RuntimeService, ImageService } = contracts.cri.runtime.v1
    const wire = servedContract(RuntimeService.service)
    const { health, streaming, version } = deps
    cri.addService(
      wire,
      runtimeService(
        { runtimeVersion: version, layersPath: containersDir(config.root) },
        { ...node, node: health, streamUrls: streaming, wire, logger, observer },
      ),
    )
    const images = { images: node.images, wire: ImageService.service, logger, observer }
    cri.addService(ImageService.service, imageService(images))
    const served = openSandboxer(config, node, { contracts, logger, observer }, parts)
    this.#waits = served.waits
    sandboxer.addService(served.definition, served.implementation)
  }

  /** @throws CodedError as {@link GrpcServer.listen}. */
  async listen(): Promise<void> {
    for (const server of this.#servers) {
      await server.listen()
      server.setServing(true)
    }
  }

  /** As {@link GrpcServer.close}; calls that may last for ever are ended at once. */
  async close(drainMs: number): Promise<void> {
    this.#waits[Symbol.dispose]()
    await Promise.all(this.#servers.map((server) => server.close(drainMs)))
  }
}
