import { existsSync } from 'node:fs'
import type { CniNetworks } from '../../cni/cni-networks.ts'
import type { Config } from '../../config/config.ts'
import { containerPaths, containersDir } from '../../container/paths.ts'
import { sleep } from '../../core/deadline.ts'
import { isOwnId } from '../../core/ids.ts'
import type { Sealer } from '../../core/seal.ts'
import { type Check, Doctor, type Finding } from '../../doctor/doctor.ts'
import type { Records } from '../../doctor/records.ts'
import { checkpointsUnread } from '../../doctor/unrecorded.ts'
import type { Libc } from '../../host/libc.ts'
import { readBootId } from '../../host/process.ts'
import type { Programs } from '../../host/programs/programs.ts'
import { ownerIds } from '../../lifecycle/records.ts'
import { sandboxesDir, sandboxPaths } from '../../sandbox/paths.ts'
import type { Logger } from '../../telemetry/logger.ts'
import { doctorChecks } from './checks.ts'
import type { Node } from '../node.ts'

const LOOK_MS = 100

/** What examines a node, and puts right what it finds when it is told to. */
export type Examine = (fix: boolean, signal: AbortSignal) => Promise<Finding[]>

export interface DoctorBase {
  readonly sealer: Sealer
  readonly programs: Programs
  readonly libc: Libc
  readonly networks: CniNetworks
  /** Whether every sandbox on record has been looked at: before that nobody knows what is wrong. */
  readonly isRecovered: () => boolean
  readonly logger: Logger
}

/** The doctor of a running daemon: nothing that is under way is mistaken for damage. */
export function openDoctor(config: Config, node: Node, base: DoctorBase): Examine {
  const { sandboxes, containers, kernel, shims } = node
  const { networks, isRecovered, ...given } = base
  const records = recordsOf(config, node, base.sealer)
  const parts = {
    ...given,
    bootId: readBootId(),
    isDaemonUp: true,
    records,
    kernel,
    shims,
    networks: async () => networks,
  }
  const doctor = new Doctor(
    { repairMs: config.timeouts.releaseMs },
    {
      checks: [unread(config, node), ...doctorChecks(config, parts)],
      // An id that nobody knows may be either's.
      alone: async (id, work) => sandboxes.alone(id, async () => containers.alone(id, work)),
      logger: base.logger,
    },
  )
  return async (fix, signal) => {
    while (!isRecovered()) await sleep(LOOK_MS, signal)
    return doctor.examine(fix, signal)
  }
}

function recordsOf(config: Config, { sandboxes, containers }: Node, sealer: Sealer): Records {
  const isInMemory = (id: string): boolean =>
    sandboxes.all().some((sandbox) => sandbox.id === id) || containers.all().some((container) => container.id === id)
  return {
    sandboxes: () => sandboxes.all(),
    containers: () => containers.all(),
    // What has a checkpoint is on record, if only for the next daemon.
    isKnown: (id) =>
      isInMemory(id) ||
      existsSync(sandboxPaths(config, id).checkpoint) ||
      existsSync(containerPaths(config, id).checkpoint),
    isOwn: (id) => isOwnId(sealer, id),
    examine: async (id) => {
      const sandbox = sandboxes.all().find((candidate) => candidate.id === id)
      if (sandbox) return sandboxes.examine(sandbox)
      const container = containers.all().find((candidate) => candidate.id === id)
      return container ? containers.examine(container) : ''
    },
  }
}

function unread(config: Config, { sandboxes, containers }: Node): Check {
  return checkpointsUnread(async () => {
    const ofSandboxes = ownerIds(sandboxesDir(config.root)).map((id) => ({ id, ...sandboxPaths(config, id) }))
    const ofContainers = ownerIds(containersDir(config.root)).map((id) => ({ id, ...containerPaths(config, id) }))
    const paths = [...ofSandboxes, ...ofContainers].map(({ id, checkpoint: path }) => ({ id, path }))
    const there = paths.filter(({ path }) => existsSync(path))
    const known = new Set([...sandboxes.all(), ...containers.all()].map(({ id }) => id))
    return there.filter(({ id }) => !known.has(id))
  })
}
