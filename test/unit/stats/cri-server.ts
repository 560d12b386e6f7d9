import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { credentials } from '@grpc/grpc-js'
import { pino } from 'pino'
import { servedContract } from '../../../src/cri/runtime-service.ts'
import { statsHandlers } from '../../../src/cri/stats-handlers.ts'
import type { RuntimeServiceDefinition } from '../../../src/generated/runtime/v1/RuntimeService.ts'
import { loadCri } from '../../../src/grpc/load.ts'
import { GrpcServer } from '../../../src/grpc/server.ts'
import type { Stats } from '../../../src/stats/types.ts'
import { StatsClient } from '../../support/cri-stats.ts'

const cri = loadCri().runtime.v1

export interface StatsServer extends AsyncDisposable {
  readonly client: StatsClient
  /** How often an answer of each list was encoded. */
  readonly encoded: Readonly<Record<'ListContainerStats' | 'ListPodSandboxStats' | 'ListPodSandboxMetrics', number>>
}

/** The methods that measure, on a socket of their own. */
export async function startStatsServer(stats: Stats): Promise<StatsServer> {
  const directory = await mkdtemp(join(tmpdir(), 'sandboxerd-stats-'))
  const socketPath = join(directory, 'cri.sock')
  const logger = pino({ level: 'silent' })
  const encoded = { ListContainerStats: 0, ListPodSandboxStats: 0, ListPodSandboxMetrics: 0 }
  const service = servedContract(counting(cri.RuntimeService.service, encoded))
  const encode = {
    ListContainerStats: service.ListContainerStats.responseSerialize,
    ListPodSandboxStats: service.ListPodSandboxStats.responseSerialize,
    ListPodSandboxMetrics: service.ListPodSandboxMetrics.responseSerialize,
  }
  const handlers = statsHandlers({ stats, layersPath: '/layers', encode, logger })
  const server = new GrpcServer({ socketPath, mode: 0o600, group: '' }, { logger })
  server.addService(service, handlers)
  await server.listen()
  const channel = new cri.RuntimeService(`unix:${socketPath}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': -1,
  })
  return {
    client: new StatsClient(channel),
    encoded,
    async [Symbol.asyncDispose]() {
      channel.close()
      await server.close(0)
      await rm(directory, { recursive: true })
    },
  }
}

type Counts = Record<keyof StatsServer['encoded'], number>

function counting(service: RuntimeServiceDefinition, counts: Counts): RuntimeServiceDefinition {
  const counted = <Method extends { responseSerialize: (message: never) => Buffer }>(
    name: keyof Counts,
    method: Method,
  ): Method => {
    const responseSerialize = (message: never): Buffer => {
      counts[name]++
      return method.responseSerialize(message)
    }
    return { ...method, responseSerialize }
  }
  return {
    ...service,
    ListContainerStats: counted('ListContainerStats', service.ListContainerStats),
    ListPodSandboxStats: counted('ListPodSandboxStats', service.ListPodSandboxStats),
    ListPodSandboxMetrics: counted('ListPodSandboxMetrics', service.ListPodSandboxMetrics),
  }
}
