import { CodedError } from '../../src/core/errors.ts'
import type { ExitStatus } from '../../src/executor/types.ts'
import type { SandboxInfo, ServedRequest, ServedSandboxes, ServedView } from '../../src/sandbox/types.ts'

/** Served sandboxes in memory. */
export class FakeServed implements ServedSandboxes {
  readonly requests: ServedRequest[] = []
  readonly calls: string[] = []
  readonly views = new Map<string, ServedView>()
  readonly #waiting = new Map<string, Set<(exit: ExitStatus) => void>>()

  async create(request: ServedRequest): Promise<void> {
    const { id, config, netnsPath } = request
    if (this.views.has(id)) throw new CodedError('AlreadyExists', `create sandbox ${id}: there is one`)
    this.requests.push(request)
    this.views.set(id, {
      metadata: {
        id,
        name: `sandboxer_${id}`,
        config,
        runtimeHandler: '',
        sandboxer: 'shim-v2',
        netMode: netnsPath === '' ? 'host' : 'cni',
        netnsPath,
        createdAtNs: 1_763_692_200_123_456_789n,
        served: request,
      },
      ready: false,
      pid: 0,
      exit: null,
      endpoint: null,
    })
  }

  async start(id: string): Promise<ServedView> {
    const endpoint = { address: `ttrpc+unix:///run/${id}`, version: 3 }
    const view: ServedView = { ...this.#get(id), ready: true, pid: 4711, endpoint }
    this.views.set(id, view)
    return view
  }

  async status(id: string): Promise<ServedView> {
    return this.#get(id)
  }

  async info(id: string): Promise<SandboxInfo> {
    return { id: this.#get(id).metadata.id, big: 2n ** 60n }
  }

  async wait(id: string, signal: AbortSignal): Promise<ExitStatus> {
    const { exit } = this.#get(id)
    if (exit) return exit
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.get(id) ?? new Set()
      this.#waiting.set(id, waiting.add(resolve))
      signal.addEventListener('abort', () => {
        waiting.delete(resolve)
        reject(signal.reason as Error)
      })
    })
  }

  /** How many wait for the end of a sandbox. */
  waiting(id: string): number {
    return this.#waiting.get(id)?.size ?? 0
  }

  async stop(id: string, graceMs: number | null): Promise<void> {
    this.calls.push(`stop ${id} ${graceMs}`)
    const view = this.views.get(id)
    if (!view) return
    const exit: ExitStatus = { code: 137, atNs: 1_763_692_300_000_000_000n, reason: 'Exited' }
    this.views.set(id, { ...view, ready: false, exit })
    for (const tell of this.#waiting.get(id) ?? []) tell(exit)
  }

  async shutdown(id: string): Promise<void> {
    await this.stop(id, 0)
    this.views.delete(id)
  }

  async update(id: string, resources: unknown): Promise<void> {
    this.calls.push(`update ${this.#get(id).metadata.id} ${JSON.stringify(resources)}`)
  }

  #get(id: string): ServedView {
    const view = this.views.get(id)
    if (view) return view
    throw new CodedError('NotFound', `sandbox ${id}: there is none`)
  }
}
