import { type CallOptions, credentials, type ServiceError } from '@grpc/grpc-js'
import { CodedError } from '../../core/errors.ts'
import { errorCodeOfStatus } from '../../core/status-codes.ts'
import type { ContainerConfig } from '../../generated/runtime/v1/ContainerConfig.ts'
import type { CreateContainerResponse__Output } from '../../generated/runtime/v1/CreateContainerResponse.ts'
import type { ImageServiceClient } from '../../generated/runtime/v1/ImageService.ts'
import type { ImageStatusResponse__Output } from '../../generated/runtime/v1/ImageStatusResponse.ts'
import type { ListPodSandboxResponse__Output } from '../../generated/runtime/v1/ListPodSandboxResponse.ts'
import type { PodSandboxConfig } from '../../generated/runtime/v1/PodSandboxConfig.ts'
import type { PodSandboxStatusResponse__Output } from '../../generated/runtime/v1/PodSandboxStatusResponse.ts'
import type { RunPodSandboxResponse__Output } from '../../generated/runtime/v1/RunPodSandboxResponse.ts'
import type { RuntimeServiceClient } from '../../generated/runtime/v1/RuntimeService.ts'
import { notReached } from '../admin-client.ts'
import { loadCri } from '../../grpc/load.ts'

/** What a step of RunPodSandbox took, from its beginning on. */
export interface StepTime {
  readonly name: string
  readonly durationMs: number
}

/** The calls of the CRI that a bench makes, each with a deadline. Errors are CodedErrors with the daemon's message. */
export interface BenchCri {
  run(config: PodSandboxConfig, handler: string): Promise<string>
  steps(podId: string): Promise<readonly StepTime[]>
  stop(podId: string): Promise<void>
  remove(podId: string): Promise<void>
  createContainer(podId: string, config: ContainerConfig, pod: PodSandboxConfig): Promise<string>
  startContainer(id: string): Promise<void>
  stopContainer(id: string): Promise<void>
  /** The pods with a label, whatever its value is when none is given. */
  podsWith(label: string, value?: string): Promise<readonly string[]>
  hasImage(image: string): Promise<boolean>
}

/** Of a call that only looks, which waits for nothing: a daemon that hangs is found out at the first one. */
const READ_MS = 10_000

/** They go to a socket that serves the CRI. */
export class CriCalls implements BenchCri, Disposable {
  readonly #socketPath: string
  readonly #timeoutMs: number
  readonly #runtime: RuntimeServiceClient
  readonly #images: ImageServiceClient

  /** @param options.timeoutMs of each call: longer than the daemon's own limits, so that it is the daemon who gives up. */
  constructor(options: { readonly socketPath: string; readonly timeoutMs: number }) {
    const { RuntimeService, ImageService } = loadCri().runtime.v1
    this.#socketPath = options.socketPath
    this.#timeoutMs = options.timeoutMs
    const address = `unix:${options.socketPath}`
    this.#runtime = new RuntimeService(address, credentials.createInsecure())
    this.#images = new ImageService(address, credentials.createInsecure())
  }

  async run(config: PodSandboxConfig, handler: string): Promise<string> {
    const request = { config, runtime_handler: handler }
    const answer = await this.#call<RunPodSandboxResponse__Output>((o, done) =>
      this.#runtime.RunPodSandbox(request, o, done),
    )
    return answer.pod_sandbox_id
  }

  async steps(podId: string): Promise<readonly StepTime[]> {
    const request = { pod_sandbox_id: podId, verbose: true }
    const { info } = await this.#call<PodSandboxStatusResponse__Output>(
      (o, done) => this.#runtime.PodSandboxStatus(request, o, done),
      READ_MS,
    )
    const { steps = [] } = JSON.parse(info['info'] ?? '{}') as { readonly steps?: readonly StepTime[] }
    return steps
  }

  async stop(podId: string): Promise<void> {
    await this.#call((o, done) => this.#runtime.StopPodSandbox({ pod_sandbox_id: podId }, o, done))
  }

  async remove(podId: string): Promise<void> {
    await this.#call((o, done) => this.#runtime.RemovePodSandbox({ pod_sandbox_id: podId }, o, done))
  }

  async createContainer(podId: string, config: ContainerConfig, pod: PodSandboxConfig): Promise<string> {
    const request = { pod_sandbox_id: podId, config, sandbox_config: pod }
    const answer = await this.#call<CreateContainerResponse__Output>((o, done) =>
      this.#runtime.CreateContainer(request, o, done),
    )
    return answer.container_id
  }

  async startContainer(id: string): Promise<void> {
    await this.#call((o, done) => this.#runtime.StartContainer({ container_id: id }, o, done))
  }

  /** Kills it: what an image does with a signal is not what is measured. */
  async stopContainer(id: string): Promise<void> {
    await this.#call((o, done) => this.#runtime.StopContainer({ container_id: id, timeout: 0 }, o, done))
  }

  async podsWith(label: string, value?: string): Promise<readonly string[]> {
    const request = value === undefined ? {} : { filter: { label_selector: { [label]: value } } }
    const { items } = await this.#call<ListPodSandboxResponse__Output>(
      (o, done) => this.#runtime.ListPodSandbox(request, o, done),
      READ_MS,
    )
    return items.filter(({ labels }) => Object.hasOwn(labels, label)).map(({ id }) => id)
  }

  async hasImage(image: string): Promise<boolean> {
    const answer = await this.#call<ImageStatusResponse__Output>(
      (o, done) => this.#images.ImageStatus({ image: { image } }, o, done),
      READ_MS,
    )
    return answer.image !== null
  }

  [Symbol.dispose](): void {
    this.#runtime.close()
    this.#images.close()
  }

  #call<T>(
    begin: (options: CallOptions, done: (error: ServiceError | null, answer?: T) => void) => unknown,
    timeoutMs = this.#timeoutMs,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      begin({ deadline: Date.now() + timeoutMs }, (error, answer) => {
        if (answer !== undefined && error === null) resolve(answer)
        else reject(this.#errorOf(error))
      })
    })
  }

  #errorOf(error: ServiceError | null): CodedError {
    if (error === null) return new CodedError('Internal', `${this.#socketPath}: the answer is empty`)
    const code = errorCodeOfStatus(error.code)
    const text = error.details || error.message
    return code === 'Unavailable' ? notReached(this.#socketPath, new Error(text)) : new CodedError(code, text)
  }
}
