import { connect } from 'node:net'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { credentials, loadPackageDefinition, type ServiceError } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import type { ProtoGrpcType } from '../src/generated/api.ts'
import type { ContainerConfig } from '../src/generated/runtime/v1/ContainerConfig.ts'
import type { ImageServiceClient } from '../src/generated/runtime/v1/ImageService.ts'
import type { RuntimeServiceClient } from '../src/generated/runtime/v1/RuntimeService.ts'
import type { PodSandbox__Output } from '../src/generated/runtime/v1/PodSandbox.ts'
import type { PodSandboxConfig } from '../src/generated/runtime/v1/PodSandboxConfig.ts'
import type { StatusResponse__Output } from '../src/generated/runtime/v1/StatusResponse.ts'
import { StreamUrlClient } from '../test/support/cri-streaming.ts'
import type { Daemon } from './process.ts'

const CALL_MS = 120_000
const OPTIONS = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true }

/** What a verbose status of a pod or a container may say. */
export interface PodInfo {
  readonly pid?: number
  readonly runtimeSpec?: unknown
  readonly steps?: readonly { readonly name: string; readonly startMs: number; readonly durationMs: number }[]
}

/** A CRI client: calls as promises. */
export class Cri {
  readonly streamUrls: StreamUrlClient
  readonly #client: RuntimeServiceClient
  readonly #images: ImageServiceClient

  constructor(socket: string) {
    // bench/run.sh runs us in the root of the repository.
    const proto = loadSync('runtime/v1/api.proto', { ...OPTIONS, includeDirs: [resolve('proto')] })
    const packages = loadPackageDefinition(proto) as unknown as ProtoGrpcType
    const options = { 'grpc.initial_reconnect_backoff_ms': 100, 'grpc.max_reconnect_backoff_ms': 100 }
    const { RuntimeService, ImageService } = packages.runtime.v1
    this.#client = new RuntimeService(`unix://${socket}`, credentials.createInsecure(), options)
    this.streamUrls = new StreamUrlClient(this.#client)
    this.#images = new ImageService(`unix://${socket}`, credentials.createInsecure(), options)
  }

  async pull(image: string): Promise<void> {
    await answer((done) => this.#images.PullImage({ image: { image } }, late(), done))
  }

  async createContainer(podId: string, config: ContainerConfig, pod: PodSandboxConfig): Promise<string> {
    const request = { pod_sandbox_id: podId, config, sandbox_config: pod }
    const response = await answer<{ container_id: string }>((done) =>
      this.#client.CreateContainer(request, late(), done),
    )
    return response.container_id
  }

  async startContainer(id: string): Promise<void> {
    await answer((done) => this.#client.StartContainer({ container_id: id }, late(), done))
  }

  /** With a grace period of ten seconds, which nothing here needs. */
  async stopContainer(id: string, timeout = 10): Promise<void> {
    await answer((done) => this.#client.StopContainer({ container_id: id, timeout }, late(), done))
  }

  async removeContainer(id: string): Promise<void> {
    await answer((done) => this.#client.RemoveContainer({ container_id: id }, late(), done))
  }

  /** @throws Error when the command fails. */
  async execSync(id: string, cmd: string[]): Promise<void> {
    const request = { container_id: id, cmd, timeout: 10 }
    const { exit_code: code } = await answer<{ exit_code: number }>((done) =>
      this.#client.ExecSync(request, late(), done),
    )
    if (code !== 0) throw new Error(`${cmd.join(' ')} in container ${id}: exit code ${code}`)
  }

  async containerInfo(id: string): Promise<PodInfo> {
    const response = await answer<{ info: Record<string, string> }>((done) =>
      this.#client.ContainerStatus({ container_id: id, verbose: true }, late(), done),
    )
    return JSON.parse(response.info['info'] ?? '{}') as PodInfo
  }

  async run(config: PodSandboxConfig, handler: string): Promise<string> {
    const response = await answer<{ pod_sandbox_id: string }>((done) =>
      this.#client.RunPodSandbox({ config, runtime_handler: handler }, late(), done),
    )
    return response.pod_sandbox_id
  }

  async stop(id: string): Promise<void> {
    await answer((done) => this.#client.StopPodSandbox({ pod_sandbox_id: id }, late(), done))
  }

  async remove(id: string): Promise<void> {
    await answer((done) => this.#client.RemovePodSandbox({ pod_sandbox_id: id }, late(), done))
  }

  async list(): Promise<PodSandbox__Output[]> {
    const response = await answer<{ items: PodSandbox__Output[] }>((done) =>
      this.#client.ListPodSandbox({}, late(), done),
    )
    return response.items
  }

  async podStatus(id: string): Promise<void> {
    await answer((done) => this.#client.PodSandboxStatus({ pod_sandbox_id: id }, late(), done))
  }

  async podInfo(id: string): Promise<PodInfo> {
    const response = await answer<{ info: Record<string, string> }>((done) =>
      this.#client.PodSandboxStatus({ pod_sandbox_id: id, verbose: true }, late(), done),
    )
    return JSON.parse(response.info['info'] ?? '{}') as PodInfo
  }

  /** Why the runtime or its network is not ready; empty when both are. */
  async notReady(): Promise<string> {
    const { status } = await answer<StatusResponse__Output>((done) => this.#client.Status({}, late(), done))
    const unready = (status?.conditions ?? []).filter((condition) => !condition.status)
    return unready.map(({ type, reason, message }) => `${type}: ${reason} ${message}`).join('; ')
  }

  close(): void {
    this.#images.close()
    this.#client.close()
  }
}

/** Waits until something accepts connections on the socket. @throws Error when the daemon ends, or with the end of its log. */
export async function listening(socket: string, timeoutMs: number, daemon: Daemon): Promise<void> {
  const end = performance.now() + timeoutMs
  while (!(await accepts(socket))) {
    if (daemon.hasEnded) throw new Error(`nothing will listen on ${socket}, the daemon has ended: ${daemon.logTail()}`)
    if (performance.now() > end)
      throw new Error(`nothing listens on ${socket} after ${timeoutMs} ms: ${daemon.logTail()}`)
    await sleep(2)
  }
}

/** Waits until runtime and network are ready. */
export async function ready(cri: Cri, timeoutMs: number, why: () => string): Promise<void> {
  const end = performance.now() + timeoutMs
  for (let problem = ''; ; await sleep(50)) {
    try {
      problem = await cri.notReady()
      if (problem === '') return
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error)
    }
    if (performance.now() > end) throw new Error(`not ready after ${timeoutMs} ms: ${problem}: ${why()}`)
  }
}

function accepts(socket: string): Promise<boolean> {
  return new Promise((done) => {
    const connection = connect(socket)
    const end = (result: boolean) => (): void => {
      connection.destroy()
      done(result)
    }
    connection.once('connect', end(true)).once('error', end(false))
  })
}

function late(): { deadline: number } {
  return { deadline: Date.now() + CALL_MS }
}

function answer<T>(begin: (done: (error: ServiceError | null, value?: T) => void) => unknown): Promise<T> {
  return new Promise((done, fail) => {
    begin((error, value) => {
      if (error) fail(error)
      else if (value === undefined) fail(new Error('the answer is empty'))
      else done(value)
    })
  })
}
