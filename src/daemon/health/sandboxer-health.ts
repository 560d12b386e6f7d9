import type { ControllerRegistry } from '../../controller/registry.ts'
import { SandboxerController } from '../../controller/sandboxer-controller.ts'
import { errorMessage } from '../../core/errors.ts'

/** How long a remote sandboxer is waited for. */
const PROBE_MS = 1000
/** Who asks again within this time gets the same answer. */
const FRESH_MS = 5000

/** How a remote sandboxer answers. */
export interface SandboxerProbe {
  readonly name: string
  readonly address: string
  readonly reachable: boolean
  /** Of its answer; null when there was none. */
  readonly latencyMs: number | null
  readonly problem: string | null
}

/** Asks the remote sandboxers whether they are there. None is asked more often than every few seconds. */
export class SandboxerHealth {
  readonly #registry: Pick<ControllerRegistry, 'all'>
  #last: Promise<readonly SandboxerProbe[]> = Promise.resolve([])
  #askedAtMs = Number.NEGATIVE_INFINITY

  constructor(deps: { readonly registry: Pick<ControllerRegistry, 'all'> }) {
    this.#registry = deps.registry
  }

  /** Throws nothing, and waits for one second at most. */
  async probe(): Promise<readonly SandboxerProbe[]> {
    if (performance.now() - this.#askedAtMs < FRESH_MS) return this.#last
    this.#askedAtMs = performance.now()
    const remotes = this.#registry.all().filter((controller) => controller instanceof SandboxerController)
    this.#last = Promise.all(remotes.map(probeOne))
    return this.#last
  }
}

async function probeOne(sandboxer: SandboxerController): Promise<SandboxerProbe> {
  const { name, address } = sandboxer
  const beginMs = performance.now()
  try {
    await sandboxer.probe(PROBE_MS)
    return { name, address, reachable: true, latencyMs: performance.now() - beginMs, problem: null }
  } catch (error) {
    return { name, address, reachable: false, latencyMs: null, problem: errorMessage(error) }
  }
}
