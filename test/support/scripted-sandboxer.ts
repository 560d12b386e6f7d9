import type { NamedSandbox, RemoteCall, SandboxerClient } from '../../src/client/sandboxer-client.ts'
import { abortReason } from '../../src/core/deadline.ts'
import type { ControllerMetricsResponse__Output } from '../../src/generated/containerd/services/sandbox/v1/ControllerMetricsResponse.ts'
import type { ControllerPlatformResponse__Output } from '../../src/generated/containerd/services/sandbox/v1/ControllerPlatformResponse.ts'
import type { ControllerStartResponse__Output } from '../../src/generated/containerd/services/sandbox/v1/ControllerStartResponse.ts'
import type { ControllerStatusResponse__Output } from '../../src/generated/containerd/services/sandbox/v1/ControllerStatusResponse.ts'
import type { ControllerWaitResponse__Output } from '../../src/generated/containerd/services/sandbox/v1/ControllerWaitResponse.ts'

/** A remote sandboxer without a wire: each call is noted, and answers what the test has put there. */
export class ScriptedSandboxer implements SandboxerClient {
  readonly calls: { readonly method: keyof SandboxerClient; readonly id: string; readonly timeoutMs: number }[] = []
  state = 'SANDBOX_READY'
  exitedAt: ControllerStatusResponse__Output['exited_at'] = null
  /** What Start and Status tell of the process and the Task service. */
  started = { pid: 1, address: 'ttrpc+unix:///t', version: 3 }
  /** The answer of Metrics. */
  metricsData: ControllerMetricsResponse__Output['metrics'] = null
  /** Thrown by every call but wait and status. */
  failure: Error | undefined
  /** What Update was given. */
  readonly updates: { readonly sandbox: NamedSandbox; readonly fields: readonly string[] }[] = []
  #status: (() => Promise<ControllerStatusResponse__Output>) | undefined
  #polls: {
    readonly resolve: (answer: ControllerWaitResponse__Output) => void
    readonly reject: (e: unknown) => void
  }[] = []

  async create({ sandbox_id: id }: { sandbox_id: string }, call: RemoteCall): Promise<void> {
    this.#note('create', id, call)
  }

  async start(id: string, call: RemoteCall): Promise<ControllerStartResponse__Output> {
    this.#note('start', id, call)
    return { sandbox_id: id, ...this.started, created_at: null, labels: {}, spec: null }
  }

  async stop(id: string, _graceMs: number, call: RemoteCall): Promise<void> {
    this.#note('stop', id, call)
  }

  async shutdown(id: string, call: RemoteCall): Promise<void> {
    this.#note('shutdown', id, call)
  }

  async platform(id: string, call: RemoteCall): Promise<ControllerPlatformResponse__Output> {
    this.#note('platform', id, call)
    return { platform: { os: 'linux', architecture: 'amd64', variant: '', os_version: '', os_features: [] } }
  }

  async metrics(id: string, call: RemoteCall): Promise<ControllerMetricsResponse__Output> {
    this.#note('metrics', id, call)
    return { metrics: this.metricsData }
  }

  async update(sandbox: NamedSandbox, fields: readonly string[], call: RemoteCall): Promise<void> {
    this.#note('update', sandbox.sandbox_id, call)
    this.updates.push({ sandbox, fields })
  }

  async wait(id: string, { timeoutMs, signal }: RemoteCall): Promise<ControllerWaitResponse__Output> {
    this.calls.push({ method: 'wait', id, timeoutMs })
    return new Promise((resolve, reject) => {
      this.#polls.push({ resolve, reject })
      signal.addEventListener('abort', () => reject(abortReason(signal)), { once: true })
    })
  }

  get status(): SandboxerClient['status'] {
    return async (id, _verbose, { timeoutMs }) => {
      this.calls.push({ method: 'status', id, timeoutMs })
      if (this.#status) return this.#status()
      return {
        sandbox_id: id,
        ...this.started,
        state: this.state,
        info: { info: '{}' },
        created_at: null,
        exited_at: this.exitedAt,
        extra: null,
      }
    }
  }

  /** What Status does instead of telling the state; undefined is to tell it. */
  set status(answer: (() => Promise<ControllerStatusResponse__Output>) | undefined) {
    this.#status = answer
  }

  /** The sandbox has ended: Status says so, and Wait how. */
  end(answer: ControllerWaitResponse__Output): void {
    this.state = 'SANDBOX_NOTREADY'
    this.answerWait(answer)
  }

  answerWait(answer: ControllerWaitResponse__Output): void {
    for (const poll of this.#polls.splice(0)) poll.resolve(answer)
  }

  failWait(error: Error): void {
    for (const poll of this.#polls.splice(0)) poll.reject(error)
  }

  count(method: keyof SandboxerClient): number {
    return this.calls.filter((call) => call.method === method).length
  }

  #note(method: keyof SandboxerClient, id: string, { timeoutMs }: RemoteCall): void {
    this.calls.push({ method, id, timeoutMs })
    if (this.failure) throw this.failure
  }
}
