import type { Container__Output } from '../../src/generated/runtime/v1/Container.ts'
import type { ContainerConfig } from '../../src/generated/runtime/v1/ContainerConfig.ts'
import type { ContainerFilter } from '../../src/generated/runtime/v1/ContainerFilter.ts'
import type { ContainerStatus__Output } from '../../src/generated/runtime/v1/ContainerStatus.ts'
import type { ContainerStatusResponse__Output } from '../../src/generated/runtime/v1/ContainerStatusResponse.ts'
import type { CreateContainerResponse__Output } from '../../src/generated/runtime/v1/CreateContainerResponse.ts'
import type { ExecSyncResponse__Output } from '../../src/generated/runtime/v1/ExecSyncResponse.ts'
import type { LinuxContainerResources } from '../../src/generated/runtime/v1/LinuxContainerResources.ts'
import type { ListContainersResponse__Output } from '../../src/generated/runtime/v1/ListContainersResponse.ts'
import type { PodSandboxConfig } from '../../src/generated/runtime/v1/PodSandboxConfig.ts'
import type { RuntimeServiceClient } from '../../src/generated/runtime/v1/RuntimeService.ts'
import { type CallLimits, collected, unary } from './cri-calls.ts'

export interface ExecOutcome {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

/** The keys of a verbose ContainerStatus that tests look at. */
export interface ContainerInfo {
  readonly pid: number
  readonly sandboxId: string
  readonly runtimeSpec: { readonly process: object; readonly mounts: readonly object[]; readonly linux: object } | null
}

/** The calls of RuntimeService that are about containers, as promises. */
export class ContainerClient {
  readonly #client: RuntimeServiceClient

  constructor(client: RuntimeServiceClient) {
    this.#client = client
  }

  /** @param pod the configuration that the sandbox was made with. */
  async create(
    sandboxId: string,
    config: ContainerConfig,
    pod: PodSandboxConfig = {},
    limits: CallLimits = {},
  ): Promise<string> {
    const request = { pod_sandbox_id: sandboxId, config, sandbox_config: pod }
    const { container_id: id } = await unary<CreateContainerResponse__Output>(limits, (o, done) =>
      this.#client.CreateContainer(request, o, done),
    )
    return id
  }

  async start(id: string, limits: CallLimits = {}): Promise<void> {
    await unary(limits, (o, done) => this.#client.StartContainer({ container_id: id }, o, done))
  }

  async stop(id: string, timeoutSeconds = 0, limits: CallLimits = {}): Promise<void> {
    const request = { container_id: id, timeout: String(timeoutSeconds) }
    await unary(limits, (o, done) => this.#client.StopContainer(request, o, done))
  }

  async remove(id: string, limits: CallLimits = {}): Promise<void> {
    await unary(limits, (o, done) => this.#client.RemoveContainer({ container_id: id }, o, done))
  }

  async list(filter?: ContainerFilter): Promise<Container__Output[]> {
    const request = filter ? { filter } : {}
    const { containers } = await unary<ListContainersResponse__Output>({}, (o, done) =>
      this.#client.ListContainers(request, o, done),
    )
    return containers
  }

  /** The same as {@link list}, from the stream. */
  async stream(filter?: ContainerFilter): Promise<Container__Output[]> {
    const parts = await collected((o) => this.#client.StreamContainers(filter ? { filter } : {}, o))
    return parts.flatMap(({ containers }) => containers)
  }

  async status(id: string, limits: CallLimits = {}): Promise<ContainerStatus__Output> {
    const { status } = await this.#status(id, false, limits)
    if (status === null) throw new Error(`status of container ${id}: the answer holds none`)
    return status
  }

  /** What a verbose status adds. */
  async info(id: string, limits: CallLimits = {}): Promise<ContainerInfo> {
    const { info } = await this.#status(id, true, limits)
    return JSON.parse(info['info'] ?? '{}') as ContainerInfo
  }

  async exec(id: string, cmd: readonly string[], timeoutSeconds = 0, limits: CallLimits = {}): Promise<ExecOutcome> {
    const { exitCode, stdout, stderr } = await this.execBytes(id, cmd, timeoutSeconds, limits)
    return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() }
  }

  async execBytes(
    id: string,
    cmd: readonly string[],
    timeoutSeconds = 0,
    limits: CallLimits = {},
  ): Promise<{ exitCode: number; stdout: Buffer; stderr: Buffer }> {
    const request = { container_id: id, cmd: [...cmd], timeout: String(timeoutSeconds) }
    const answer = await unary<ExecSyncResponse__Output>(limits, (o, done) => this.#client.ExecSync(request, o, done))
    return { exitCode: answer.exit_code, stdout: answer.stdout, stderr: answer.stderr }
  }

  /** What a shell in the container prints on standard output. @throws Error when it fails. */
  async shell(id: string, script: string): Promise<string> {
    const { exitCode, stdout, stderr } = await this.exec(id, ['/bin/sh', '-c', script])
    if (exitCode !== 0) throw new Error(`${script}: exit code ${exitCode}: ${stderr}`)
    return stdout.trimEnd()
  }

  async reopenLog(id: string): Promise<void> {
    await unary({}, (o, done) => this.#client.ReopenContainerLog({ container_id: id }, o, done))
  }

  async update(id: string, linux: LinuxContainerResources): Promise<void> {
    await unary({}, (o, done) => this.#client.UpdateContainerResources({ container_id: id, linux }, o, done))
  }

  async checkpoint(id: string, location: string): Promise<void> {
    const request = { container_id: id, location, timeout: '30' }
    await unary({}, (o, done) => this.#client.CheckpointContainer(request, o, done))
  }

  #status(id: string, verbose: boolean, limits: CallLimits): Promise<ContainerStatusResponse__Output> {
    return unary<ContainerStatusResponse__Output>(limits, (o, done) =>
      this.#client.ContainerStatus({ container_id: id, verbose }, o, done),
    )
  }
}
