import { resolve } from 'node:path'
import type { DaemonStatus } from '../../admin/api.ts'
import type { Names } from '../../admin/happenings.ts'
import { adminRoutes, type Others } from '../../admin/routes.ts'
import { AdminServer } from '../../admin/server.ts'
import type { Config } from '../../config/config.ts'
import type { ContainerManager } from '../../container/container-manager.ts'
import type { Sealer } from '../../core/seal.ts'
import type { Condition } from '../../cri/node-status.ts'
import { readBootId } from '../../host/process.ts'
import type { SandboxManager } from '../../sandbox/sandbox-manager.ts'
import { MIGRATIONS } from '../../store/schema.ts'
import type { Store } from '../../store/store.ts'
import type { Logger } from '../../telemetry/logger.ts'
import { forgetOwed } from '../doctor/forget-owed.ts'
import type { Node } from '../node.ts'
import type { NodeHealth } from '../health/node-health.ts'

export interface AdminParts {
  readonly config: Config
  /** The file that the configuration is from; undefined for the embedded defaults. */
  readonly configFile: string | undefined
  readonly version: string
  readonly node: Node
  readonly health: Pick<NodeHealth, 'runtimeCondition' | 'networkCondition'>
  readonly store: Pick<Store, 'rowsOf'>
  readonly sealer: Sealer
  /** Where streaming is. */
  readonly streamingUrl: string
  readonly isRecovered: () => boolean
  /** A descriptor that listens at the socket already. */
  readonly fd: number | undefined
  readonly others: Others
  readonly logger: Logger
}

/** The server for who looks after the node; it listens when this returns. @throws CodedError as its `listen`. */
export async function openAdmin(parts: AdminParts): Promise<AdminServer> {
  const { config, node, store, sealer, fd, others, logger } = parts
  const { sandboxes, containers, stats, happenings, registry, controlled, executed } = node
  const startedAt = new Date(performance.timeOrigin).toISOString()
  const routes = adminRoutes({
    status: () => statusOf(parts, startedAt),
    builtInSandboxers: registry.all().flatMap(({ name, remote }) => (remote ? [] : [name])),
    sandboxes: () => sandboxes.all(),
    containers: () => containers.all(),
    store,
    inspection: { roots: config, sealer },
    runtime: { registry, controlled, executed, containerInfo: (id, signal) => containers.info(id, signal) },
    stats,
    happenings,
    forgetOwed: async (ownerId, seq) => forgetOwed(ownerId, seq, { node, logger }),
    others,
  })
  const server = new AdminServer({ ...config.admin, fd }, { routes, logger })
  await server.listen()
  return server
}

/** What sandboxes and containers are called, for {@link Node.happenings}. */
export function namesOf(sandboxes: Pick<SandboxManager, 'all'>, containers: Pick<ContainerManager, 'all'>): Names {
  return {
    pods: () =>
      sandboxes.all().map(({ metadata: { id, config } }) => {
        const { name = '', namespace = '' } = config.metadata ?? {}
        return [id, { name, namespace }]
      }),
    containers: () => containers.all().map(({ metadata: { id, config } }) => [id, config.metadata?.name ?? '']),
  }
}

function statusOf(parts: AdminParts, startedAt: string): Omit<DaemonStatus, 'running'> {
  const { config, configFile, version, node, health, streamingUrl } = parts
  const ofSandboxes = node.sandboxes.counts()
  const ofContainers = node.containers.counts()
  return {
    version,
    pid: process.pid,
    startedAt,
    // The one who reads it is somewhere else.
    config: configFile === undefined ? null : resolve(configFile),
    sockets: {
      cri: config.cri.socket,
      sandboxer: config.sandboxer.socket,
      admin: config.admin.socket,
      streaming: streamingUrl,
    },
    schemaVersion: MIGRATIONS.length,
    bootId: readBootId(),
    recovered: parts.isRecovered(),
    conditions: {
      RuntimeReady: toldOf(health.runtimeCondition()),
      NetworkReady: toldOf(health.networkCondition()),
    },
    sandboxes: ofSandboxes['sandboxes'] as Readonly<Record<string, number>>,
    containers: ofContainers['containers'] as Readonly<Record<string, number>>,
    owed: Number(ofSandboxes['owed']) + Number(ofContainers['containersOwed']),
  }
}

function toldOf({ isTrue, reason, message }: Condition): true | string {
  return isTrue || [reason, message].filter((text) => text !== '').join(': ')
}
