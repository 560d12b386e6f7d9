import { errorMessage } from '../../core/errors.ts'
import type { PodSandboxConfig } from '../../generated/runtime/v1/PodSandboxConfig.ts'
import type { BenchCri } from './cri.ts'
import { Samples, type Summary } from './samples.ts'

/** The label of every pod of a bench; its value is the bench's own. */
export const BENCH_LABEL = 'sandboxerd.bench'
const MAX_ERRORS = 5

export interface BenchOptions {
  readonly id: string
  readonly pods: number
  readonly concurrency: number
  /** `''` is the default one. */
  readonly handler: string
  /** Each pod gets a container of it; undefined: none. */
  readonly image: string | undefined
  /** Each pod has a network of its own, made by CNI; false: that of the node. */
  readonly hasNetwork: boolean
}

export interface BenchResult {
  /** Pods that went through all of it. */
  readonly completed: number
  readonly failed: number
  /** The first few, one line each. */
  readonly errors: readonly string[]
  readonly elapsedMs: number
  readonly calls: readonly Summary[]
  /** Of RunPodSandbox. */
  readonly steps: readonly Summary[]
  /** Pods of this bench that could not be removed. */
  readonly left: readonly string[]
}

export interface BenchDeps {
  readonly cri: BenchCri
  /** Milliseconds of any clock. */
  readonly now: () => number
}

/**
 * Runs pods, so many at a time, stops and removes each, and tells how long every call took. An aborted `signal` begins no
 * further pod; those that have begun are waited for, since RunPodSandbox goes on without its client, and removed.
 */
export async function runBench(options: BenchOptions, deps: BenchDeps, signal: AbortSignal): Promise<BenchResult> {
  const bench = new Bench(options, deps)
  const startedAtMs = deps.now()
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < options.pods && !signal.aborted) await bench.pod(next++)
  }
  await Promise.all(Array.from({ length: Math.min(options.concurrency, options.pods) }, worker))
  const elapsedMs = Math.round(deps.now() - startedAtMs)
  return { ...bench.result(), elapsedMs, left: await removePods(deps.cri, options.id) }
}

/**
 * Stops and removes the pods of a bench, or of all; returns what could not be removed, and why.
 * @throws CodedError when the daemon cannot be asked.
 */
export async function removePods(cri: BenchCri, benchId?: string): Promise<string[]> {
  const left: string[] = []
  for (const id of await cri.podsWith(BENCH_LABEL, benchId)) {
    try {
      await cri.stop(id)
      await cri.remove(id)
    } catch (error) {
      left.push(`pod ${id}: ${errorMessage(error)}`)
    }
  }
  return left
}

class Bench {
  readonly #options: BenchOptions
  readonly #deps: BenchDeps
  readonly #calls = new Samples()
  readonly #steps = new Samples()
  readonly #errors: string[] = []
  #completed = 0
  #failed = 0

  constructor(options: BenchOptions, deps: BenchDeps) {
    this.#options = options
    this.#deps = deps
  }

  result(): Pick<BenchResult, 'completed' | 'failed' | 'errors' | 'calls' | 'steps'> {
    return {
      completed: this.#completed,
      failed: this.#failed,
      errors: this.#errors,
      calls: this.#calls.summaries(),
      steps: this.#steps.summaries(),
    }
  }

  /** One pod from its beginning to its end. One that fails is removed with the others at the end. */
  async pod(index: number): Promise<void> {
    const { cri } = this.#deps
    const config = podConfig(this.#options, index)
    try {
      const id = await this.#timed('RunPodSandbox', () => cri.run(config, this.#options.handler))
      for (const { name, durationMs } of await cri.steps(id)) this.#steps.add(name, durationMs)
      await this.#container(id, config)
      await this.#timed('StopPodSandbox', () => cri.stop(id))
      await this.#timed('RemovePodSandbox', () => cri.remove(id))
      this.#completed++
    } catch (error) {
      this.#failed++
      if (this.#errors.length < MAX_ERRORS) this.#errors.push(errorMessage(error))
    }
  }

  async #container(podId: string, pod: PodSandboxConfig): Promise<void> {
    const { image } = this.#options
    if (image === undefined) return
    const { cri } = this.#deps
    const options = pod.linux?.security_context?.namespace_options ?? {}
    const config = {
      metadata: { name: 'bench', attempt: 0 },
      image: { image },
      linux: { security_context: { namespace_options: options } },
    }
    const id = await this.#timed('CreateContainer', () => cri.createContainer(podId, config, pod))
    await this.#timed('StartContainer', () => cri.startContainer(id))
    await this.#timed('StopContainer', () => cri.stopContainer(id))
  }

  async #timed<T>(name: string, call: () => Promise<T>): Promise<T> {
    const startedAtMs = this.#deps.now()
    try {
      const answer = await call()
      this.#calls.add(name, this.#deps.now() - startedAtMs)
      return answer
    } catch (error) {
      throw new Error(`${name}: ${errorMessage(error)}`, { cause: error })
    }
  }
}

function podConfig({ id, hasNetwork }: BenchOptions, index: number): PodSandboxConfig {
  const name = `bench-${id}-${index}`
  return {
    metadata: { name, namespace: 'sandboxerctl-bench', uid: name, attempt: 0 },
    labels: { [BENCH_LABEL]: id },
    // A host name of its own is not possible in the node's UTS namespace.
    ...(hasNetwork ? { hostname: name } : {}),
    linux: {
      security_context: { namespace_options: { network: hasNetwork ? 'POD' : 'NODE', pid: 'CONTAINER' } },
    },
  }
}
