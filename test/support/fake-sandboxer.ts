import { type sendUnaryData, type ServerUnaryCall, status } from '@grpc/grpc-js'
import type { ControllerHandlers } from '../../src/generated/containerd/services/sandbox/v1/Controller.ts'
import type { ControllerCreateRequest__Output } from '../../src/generated/containerd/services/sandbox/v1/ControllerCreateRequest.ts'
import { ControllerSocket } from './controller-socket.ts'

export type SandboxerMethod = 'Create' | 'Start' | 'Stop' | 'Wait' | 'Status' | 'Shutdown' | 'Update' | 'Metrics'

interface FakeSandbox {
  readonly request: ControllerCreateRequest__Output
  started: boolean
  exit: { readonly code: number; readonly atNs: bigint } | undefined
  readonly waiters: Set<(failure?: status) => void>
}

interface Request {
  readonly sandbox_id: string
}

/**
 * A remote sandboxer: the Controller service of containerd's sandbox API on a Unix socket, over sandboxes in memory,
 * which outlive a restart of the server as those of a real one do. Tests make it fail, hang and go away.
 */
export class FakeSandboxer implements AsyncDisposable {
  readonly socketPath: string
  /** Every call that came in, `Method id`, in order. */
  readonly calls: string[] = []
  readonly sandboxes = new Map<string, FakeSandbox>()
  /** The containerd namespaces that came with Create. */
  readonly namespaces = new Set<string>()
  /** Where it says that the containers of a sandbox are run. */
  taskAddress = (id: string): string => `ttrpc+unix:///${id}`
  readonly #failures = new Map<SandboxerMethod, status[]>()
  readonly #hanging = new Set<SandboxerMethod>()
  #release: (() => void)[] = []
  readonly #socket: ControllerSocket

  constructor(socketPath: string) {
    this.socketPath = socketPath
    this.#socket = new ControllerSocket(socketPath, this.#handlers())
  }

  static async start(socketPath: string): Promise<FakeSandboxer> {
    const sandboxer = new FakeSandboxer(socketPath)
    await sandboxer.listen()
    return sandboxer
  }

  async listen(): Promise<void> {
    await this.#socket.listen()
  }

  /** Goes away at once; every call under way fails. */
  async close(): Promise<void> {
    await this.#socket.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** The next calls of a method fail with these codes, one after the other; then it works again. */
  failNext(method: SandboxerMethod, ...codes: readonly status[]): void {
    this.#failures.set(method, [...codes])
  }

  /** How many of the failures asked for did not happen yet. */
  failuresLeft(method: SandboxerMethod): number {
    return this.#failures.get(method)?.length ?? 0
  }

  /** Calls of these methods get no answer until {@link resume}. */
  hang(...methods: readonly SandboxerMethod[]): void {
    for (const method of methods) this.#hanging.add(method)
  }

  /** Calls that hang go on. */
  resume(): void {
    this.#hanging.clear()
    for (const release of this.#release.splice(0)) release()
  }

  /** Ends a sandbox, as when its virtual machine is gone. */
  end(id: string, code: number): void {
    const sandbox = this.sandboxes.get(id)
    if (!sandbox || sandbox.exit) return
    sandbox.exit = { code, atNs: BigInt(Date.now()) * 1_000_000n }
    for (const wake of sandbox.waiters) wake()
  }

  /** Answers every Wait under way with this code, also with OK, although nothing has ended. */
  answerWaits(code: status): void {
    for (const { waiters } of this.sandboxes.values()) {
      for (const wake of waiters) wake(code)
      waiters.clear()
    }
  }

  /** How often a method was called for a sandbox. */
  count(method: SandboxerMethod, id: string): number {
    return this.calls.filter((call) => call === `${method} ${id}`).length
  }

  #handlers(): ControllerHandlers {
    return {
      Create: this.#handle('Create', ({ request, metadata }) => {
        if (this.sandboxes.has(request.sandbox_id)) throw coded(status.ALREADY_EXISTS)
        for (const value of metadata.get('containerd-namespace')) this.namespaces.add(String(value))
        this.sandboxes.set(request.sandbox_id, { request, started: false, exit: undefined, waiters: new Set() })
        return { sandbox_id: request.sandbox_id }
      }),
      Start: this.#handle('Start', ({ request }) => {
        this.#get(request).started = true
        return { sandbox_id: request.sandbox_id, pid: 4711, address: this.taskAddress(request.sandbox_id), version: 3 }
      }),
      Platform: this.#handle(undefined, () => ({ platform: { os: 'linux', architecture: 'amd64' } })),
      Stop: this.#handle('Stop', ({ request }) => {
        this.#get(request)
        this.end(request.sandbox_id, 137)
        return {}
      }),
      Wait: this.#handle('Wait', async ({ request }) => {
        const sandbox = this.#get(request)
        if (!sandbox.exit) {
          const failure = await new Promise<status | undefined>((resolve) => {
            sandbox.waiters.add(resolve)
          })
          if (failure) throw coded(failure)
        }
        return { exit_status: sandbox.exit?.code ?? 255, exited_at: timestamp(sandbox.exit?.atNs) }
      }),
      Status: this.#handle('Status', ({ request }) => {
        const { started, exit } = this.#get(request)
        return {
          sandbox_id: request.sandbox_id,
          state: started && !exit ? 'SANDBOX_READY' : 'SANDBOX_NOTREADY',
          pid: 4711,
          address: this.taskAddress(request.sandbox_id),
          version: 3,
          exited_at: timestamp(exit?.atNs),
          info: request.verbose ? { info: '{"fake":true}' } : {},
        }
      }),
      Shutdown: this.#handle('Shutdown', ({ request }) => {
        this.#get(request)
        this.end(request.sandbox_id, 137)
        this.sandboxes.delete(request.sandbox_id)
        return {}
      }),
      Metrics: this.#handle('Metrics', () => ({})),
      Update: this.#handle('Update', () => ({})),
    }
  }

  #handle<Q extends Request, A>(
    method: SandboxerMethod | undefined,
    answer: (call: ServerUnaryCall<Q, A>) => A | Promise<A>,
  ): (call: ServerUnaryCall<Q, A>, done: sendUnaryData<A>) => void {
    const work = async (call: ServerUnaryCall<Q, A>): Promise<A> => {
      if (method === undefined) return answer(call)
      this.calls.push(`${method} ${call.request.sandbox_id}`)
      if (this.#hanging.has(method)) {
        await new Promise<void>((resolve) => {
          this.#release.push(resolve)
        })
      }
      const failure = this.#failures.get(method)?.shift()
      if (failure !== undefined) throw coded(failure)
      return answer(call)
    }
    return (call, done) => {
      void (async () => {
        try {
          done(null, await work(call))
        } catch (error) {
          done(error as Error)
        }
      })()
    }
  }

  #get({ sandbox_id: id }: Request): FakeSandbox {
    const sandbox = this.sandboxes.get(id)
    if (!sandbox) throw coded(status.NOT_FOUND)
    return sandbox
  }
}

function coded(code: status): Error {
  return Object.assign(new Error(`fake ${status[code]}`), { code, details: `fake ${status[code]}` })
}

function timestamp(ns: bigint | undefined): { seconds: string; nanos: number } | null {
  return ns === undefined ? null : { seconds: (ns / 1_000_000_000n).toString(), nanos: Number(ns % 1_000_000_000n) }
}
