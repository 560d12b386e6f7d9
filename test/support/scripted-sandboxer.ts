import type { RemoteCall, SandboxerClient } from '../../src/controller/sandboxer-client.ts'
import { abortReason } from '../../src/core/deadline.ts'
import type { ControllerStartResponse__Output } from '../../src/generated/containerd/services/sandbox/v1/ControllerStartResponse.ts'
import type { ControllerStatusResponse__Output } from '../../src/generated/containerd/services/sandbox/v1/ControllerStatusResponse.ts'
import type { ControllerWaitResponse__Output } from '../../src/generated/containerd/services/sandbox/v1/ControllerWaitResponse.ts'

/** A remote sandboxer without a wire: each call is noted, and answers what the test has put there. */
export class ScriptedSandboxer implements SandboxerClient {
  readonly calls: { readonly method: keyof SandboxerClient; readonly id: string; readonly timeoutMs: number }[] = []
  state = 'SANDBOX_READY'
  exitedAt: ControllerStatusResponse__Output['exited_at'] = null
  /** Thrown by every call but wait and status. */
  failure: Error | undefined
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
    return { sandbox_id: id, pid: 1, created_at: null, labels: {}, address: 'ttrpc+unix:///t', version: 3, spec: null }
  }

  async stop(id: string, _graceMs: number, call: RemoteCall): Promise<void> {
    this.#note('stop', id, call)
  }

  async shutdown(id: string, call: RemoteCall): Promise<void> {
    this.#note('shutdown', id, call)
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
        pid: 1,
        state: this.state,
        info: { info: '{}' },
        created_at: null,
        exited_at: this.exitedAt,
        extra: null,
        address: 'ttrpc+unix:///t',
        version: 3,
      }
    }
  }

  /** What Status does instead of telling the state. */
  set status(answer: () => Promise<ControllerStatusResponse__Output>) {
    this.#status = answer
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
