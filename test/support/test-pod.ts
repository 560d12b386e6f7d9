import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ContainerConfig } from '../../src/generated/runtime/v1/ContainerConfig.ts'
import type { ContainerStatus__Output } from '../../src/generated/runtime/v1/ContainerStatus.ts'
import type { LinuxContainerResources } from '../../src/generated/runtime/v1/LinuxContainerResources.ts'
import type { LinuxContainerSecurityContext } from '../../src/generated/runtime/v1/LinuxContainerSecurityContext.ts'
import type { PodSandboxConfig } from '../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { parseLog, text } from './container-log.ts'
import type { TestDaemon } from './daemon.ts'
import { eventually } from './pod-facts.ts'

/** A part of a container's configuration; the rest is as a kubelet has it. */
export interface ContainerPart extends Omit<ContainerConfig, 'linux' | 'envs'> {
  readonly env?: Readonly<Record<string, string>>
  readonly security?: LinuxContainerSecurityContext
  readonly resources?: LinuxContainerResources
}

/** How a container ended, and what it had printed. */
export interface Ended {
  readonly id: string
  readonly status: ContainerStatus__Output
  readonly stdout: string
  readonly stderr: string
}

/** A daemon under test with what tests need of it to make pods. */
export type PodHost = Pick<TestDaemon, 'dir' | 'client' | 'hostPod' | 'run' | 'pull' | 'track'>

let containers = 0

/** A pod of a daemon under test, and the containers that tests put into it. */
export class TestPod {
  readonly id: string
  readonly config: PodSandboxConfig
  readonly #daemon: PodHost

  private constructor(id: string, config: PodSandboxConfig, daemon: PodHost) {
    this.id = id
    this.config = config
    this.#daemon = daemon
  }

  /** Runs a pod on the node's network, which is the quickest kind, or the one that is given. */
  static async run(daemon: PodHost, handler = 'crun-pinned', config = daemon.hostPod()): Promise<TestPod> {
    const withLogs = { log_directory: join(daemon.dir, 'logs', config.metadata?.name ?? ''), ...config }
    return new TestPod(await daemon.run(withLogs, handler), withLogs, daemon)
  }

  /** The configuration of a container that runs busybox, unless it says otherwise. */
  async containerConfig(part: ContainerPart = {}): Promise<ContainerConfig> {
    const { env = {}, security, resources, ...rest } = part
    const name = `c${containers++}`
    const own = this.config.linux?.security_context?.namespace_options
    const namespace_options = { ...own, pid: own?.pid ?? 'CONTAINER' }
    return {
      metadata: { name, attempt: 0 },
      image: { image: rest.image?.image ?? (await this.#daemon.pull()) },
      // An image that is given may have a command of its own.
      ...(rest.image ? {} : { command: SLEEPER }),
      envs: Object.entries(env).map(([key, value]) => ({ key, value: Buffer.from(value) })),
      log_path: `${rest.metadata?.name ?? name}.log`,
      ...rest,
      linux: {
        security_context: { namespace_options, ...security },
        ...(resources ? { resources } : {}),
      },
    }
  }

  async create(part: ContainerPart = {}): Promise<string> {
    const config = await this.containerConfig(part)
    return this.#daemon.track(await this.#daemon.client.containers.create(this.id, config, this.config))
  }

  /** Creates a container and starts it; without a command it sleeps until it is told to end. */
  async start(part: ContainerPart = {}): Promise<string> {
    const id = await this.create({ command: SLEEPER, ...part })
    await this.#daemon.client.containers.start(id)
    return id
  }

  /** Runs a shell script in a container of its own to its end. */
  async run(script: string, part: ContainerPart = {}): Promise<Ended> {
    const id = await this.start({ command: ['/bin/sh', '-c', script], ...part })
    return this.ended(id)
  }

  /** What a shell script prints in a container of its own. @throws Error when it fails. */
  async prints(script: string, part: ContainerPart = {}): Promise<string> {
    const { status, stdout, stderr } = await this.run(script, part)
    if (status.exit_code !== 0) throw new Error(`${script}: exit code ${status.exit_code}: ${stderr}${status.message}`)
    return stdout.trimEnd()
  }

  /** Waits for a container to end. */
  async ended(id: string, ms = 20_000): Promise<Ended> {
    const { containers: client } = this.#daemon.client
    const status = await eventually(
      () => client.status(id),
      ({ state }) => state === 'CONTAINER_EXITED',
      ms,
    )
    if (status.state !== 'CONTAINER_EXITED') throw new Error(`container ${id} has not ended but is ${status.state}`)
    const lines = status.log_path === '' ? [] : parseLog(readFileSync(status.log_path, 'utf8'))
    return { id, status, stdout: text(lines, 'stdout'), stderr: text(lines, 'stderr') }
  }
}

/** Ends at once when it is asked to, as PID 1, too. */
const SLEEPER = ['/bin/sh', '-c', 'trap "exit 0" TERM INT; sleep 1000 & wait']
