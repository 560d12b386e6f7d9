import type { CniNetworks } from '../../cni/cni-networks.ts'
import type { Config } from '../../config/config.ts'
import type { ContainerState } from '../../container/types.ts'
import type { CleanupStack } from '../../core/cleanup.ts'
import { errorMessage } from '../../core/errors.ts'
import { type Observer, observers } from '../../core/observer.ts'
import { readOwnUsage } from '../../host/own-usage.ts'
import type { SandboxState } from '../../sandbox/types.ts'
import type { StreamingServer } from '../../streaming/server.ts'
import type { Logger } from '../../telemetry/logger.ts'
import { LongOperations } from '../../telemetry/long-operations.ts'
import type { Logs } from '../../telemetry/logs.ts'
import { Metrics } from '../../telemetry/metrics.ts'
import { MetricsServer } from '../../telemetry/metrics-server.ts'
import type { OwnersCounts } from '../../telemetry/node-metrics.ts'
import type { Node } from '../node.ts'
import type { NodeHealth } from '../health/node-health.ts'
import type { SandboxerHealth } from '../health/sandboxer-health.ts'

/** What the end of the daemon may take longer for the last spans. */
const FLUSH_MS = 2000

const SANDBOX_STATES: readonly SandboxState[] = ['UNKNOWN', 'RUNNING', 'PENDING', 'STOPPED', 'REMOVING']
const CONTAINER_STATES: readonly ContainerState[] = ['CREATED', 'RUNNING', 'EXITED', 'UNKNOWN']

interface TelemetryConfig extends Pick<Config, 'tracing'> {
  readonly timeouts: Pick<Config['timeouts'], 'drainMs'>
}

/** Who is told of all work that takes time, and what they know of it. */
export interface Telemetry {
  readonly observer: Observer
  readonly metrics: Metrics
}

/** To be opened first: it is closed last, when all work has ended. Traces are loaded only where they are wanted. */
export async function openTelemetry(
  { tracing, timeouts }: TelemetryConfig,
  { logs, version }: { readonly logs: Logs; readonly version: string },
  parts: CleanupStack,
): Promise<Telemetry> {
  const metrics = parts.use(new Metrics({ version }, { readUsage: readOwnUsage }))
  const told: Observer[] = [metrics.activities, new LongOperations({ logger: logs.of('telemetry') })]
  if (tracing.endpoint !== '') {
    const { Tracing } = await import('../../telemetry/tracing.ts')
    const flushMs = Math.min(FLUSH_MS, timeouts.drainMs)
    const traces = parts.use(new Tracing({ ...tracing, version, flushMs }, { logger: logs.of('telemetry') }))
    logs.setContext(() => traces.logFields())
    // Outermost: what the others log belongs to a span.
    told.unshift(traces)
  }
  return { observer: observers(told, failureTeller(logs.of('telemetry'))), metrics }
}

/** Tells of the first failure alone: what fails in one piece of work will in the next. */
function failureTeller(logger: Logger): (error: unknown) => void {
  let isTold = false
  return (error) => {
    if (!isTold) logger.error({ err: error }, 'work is done, but not all of it is measured or traced')
    isTold = true
  }
}

export interface WatchedParts {
  readonly node: Node
  readonly networks: CniNetworks
  readonly health: NodeHealth
  readonly streaming: StreamingServer
  readonly sandboxers: SandboxerHealth
  readonly isRecovered: () => boolean
  readonly watchdogPings: () => number
}

/** Says where the metrics of the node come from. */
export function watchNode(metrics: Metrics, parts: WatchedParts): void {
  const { node, networks, health, streaming, sandboxers } = parts
  const { sandboxes, containers } = node
  metrics.watch({
    sandboxes: () => count(SANDBOX_STATES, sandboxes.all(), sandboxes.owed),
    containers: () => count(CONTAINER_STATES, containers.all(), containers.owed),
    ledger: () => [...sandboxes.all(), ...containers.all()].flatMap(({ entries }) => entries),
    warmShims: () => node.warmShims(),
    streamingSessions: () => streaming.sessions,
    networkReady: () => networks.status().ready,
    runtimeReady: () => health.runtimeCondition().isTrue,
    recovered: parts.isRecovered,
    sandboxers: () => sandboxers.probe(),
    watchdogPings: parts.watchdogPings,
  })
}

/**
 * Serves the metrics over HTTP, where the configuration says where. Whatever has taken that port, which any pod on the node's
 * network can, keeps no daemon from starting.
 */
export async function openMetricsServer(
  { metrics: { address } }: Pick<Config, 'metrics'>,
  { metrics, logs }: { readonly metrics: Metrics; readonly logs: Logs },
  parts: CleanupStack,
): Promise<void> {
  if (address === '') return
  const logger = logs.of('telemetry')
  const server = parts.use(new MetricsServer({ address }, { metrics, logger }))
  try {
    await server.listen()
  } catch (error) {
    logger.error({ error: errorMessage(error) }, 'metrics are told on the admin socket only')
  }
}

function count(
  states: readonly string[],
  owners: readonly { readonly status: { readonly state: string }; readonly quarantined: string }[],
  owed: number,
): OwnersCounts {
  const counts: Record<string, number> = Object.fromEntries(states.map((state) => [state, 0]))
  for (const { status } of owners) counts[status.state] = (counts[status.state] ?? 0) + 1
  return { states: counts, quarantined: owners.filter(({ quarantined }) => quarantined !== '').length, owed }
}
