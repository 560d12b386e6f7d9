import { setImmediate as tick } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { BENCH_LABEL, type BenchOptions, removePods, runBench } from '../../../../src/ctl/bench/bench.ts'
import type { BenchCri } from '../../../../src/ctl/bench/cri.ts'
import { Samples } from '../../../../src/ctl/bench/samples.ts'
import type { PodSandboxConfig } from '../../../../src/generated/runtime/v1/PodSandboxConfig.ts'

/** Pods that are only names. */
class FakeCri implements BenchCri {
  readonly pods = new Map<string, PodSandboxConfig>()
  readonly calls: string[] = []
  /** Throws for the calls that shall fail. */
  onCall: (call: string) => void = () => undefined
  atOnce = 0
  mostAtOnce = 0

  async run(config: PodSandboxConfig, handler: string): Promise<string> {
    this.atOnce++
    this.mostAtOnce = Math.max(this.mostAtOnce, this.atOnce)
    await this.#called('run', handler)
    this.atOnce--
    const id = `id-${config.metadata?.name}`
    this.pods.set(id, config)
    return id
  }
  async steps(): Promise<readonly { name: string; durationMs: number }[]> {
    return [{ name: 'save', durationMs: 1 }]
  }
  async stop(id: string): Promise<void> {
    await this.#called('stop', id)
  }
  async remove(id: string): Promise<void> {
    await this.#called('remove', id)
    this.pods.delete(id)
  }
  async createContainer(podId: string): Promise<string> {
    await this.#called('create', podId)
    return `c-${podId}`
  }
  async startContainer(id: string): Promise<void> {
    await this.#called('start', id)
  }
  async stopContainer(id: string): Promise<void> {
    await this.#called('stop-container', id)
  }
  async podsWith(label: string, value?: string): Promise<readonly string[]> {
    const isIts = ({ labels }: PodSandboxConfig): boolean =>
      labels?.[label] !== undefined && (value === undefined || labels[label] === value)
    return [...this.pods].filter(([, config]) => isIts(config)).map(([id]) => id)
  }
  async hasImage(): Promise<boolean> {
    return true
  }
  async #called(name: string, what: string): Promise<void> {
    this.calls.push(`${name} ${what}`)
    await tick()
    this.onCall(name)
  }
}

const OPTIONS: BenchOptions = {
  id: 'b1',
  pods: 5,
  concurrency: 2,
  handler: 'crun',
  image: undefined,
  hasNetwork: false,
}
const never = new AbortController().signal

function bench(cri: FakeCri, options: Partial<BenchOptions> = {}, signal = never) {
  let now = 0
  return runBench({ ...OPTIONS, ...options }, { cri, now: () => now++ }, signal)
}

describe('runBench', () => {
  it('runs, stops and removes so many pods, so many at a time', async () => {
    const cri = new FakeCri()
    const result = await bench(cri)
    expect(result).toMatchObject({ completed: 5, failed: 0, errors: [], left: [] })
    expect(result.calls.map(({ name, count }) => [name, count])).toEqual([
      ['RunPodSandbox', 5],
      ['StopPodSandbox', 5],
      ['RemovePodSandbox', 5],
    ])
    expect(result.steps).toEqual([{ name: 'save', count: 5, p50Ms: 1, p99Ms: 1, maxMs: 1 }])
    expect(cri.mostAtOnce).toBe(2)
    expect(cri.pods.size).toBe(0)
    expect(cri.calls[0]).toBe('run crun')
  })

  it('runs a container in each where there is an image', async () => {
    const cri = new FakeCri()
    const { calls } = await bench(cri, { pods: 1, image: 'busybox' })
    expect(calls.map(({ name }) => name)).toEqual([
      'RunPodSandbox',
      'CreateContainer',
      'StartContainer',
      'StopContainer',
      'StopPodSandbox',
      'RemovePodSandbox',
    ])
  })

  it('removes what a failure has left, and tells it', async () => {
    const cri = new FakeCri()
    let stops = 0
    cri.onCall = (call) => {
      if (call === 'stop' && stops++ === 0) throw new Error('no way')
    }
    const result = await bench(cri)
    expect(result).toMatchObject({ completed: 4, failed: 1, errors: ['StopPodSandbox: no way'], left: [] })
    expect(cri.pods.size).toBe(0)
  })

  it('tells what it could not remove', async () => {
    const cri = new FakeCri()
    cri.onCall = (call) => {
      if (call === 'remove') throw new Error('busy')
    }
    const result = await bench(cri, { pods: 1 })
    expect(result.left).toEqual(['pod id-bench-b1-0: busy'])
    cri.onCall = () => undefined
    expect(await removePods(cri)).toEqual([])
    expect(cri.pods.size).toBe(0)
  })

  it('begins no further pod after Ctrl-C, and removes those that have begun', async () => {
    const cri = new FakeCri()
    const leaving = new AbortController()
    cri.onCall = (call) => {
      if (call === 'run') leaving.abort()
    }
    expect(await bench(cri, { pods: 100 }, leaving.signal)).toMatchObject({ completed: 2, failed: 0 })
    expect(cri.pods.size).toBe(0)
  })

  it('touches no pods of others', async () => {
    const cri = new FakeCri()
    cri.pods.set('other', { labels: { app: 'x' } })
    cri.pods.set('mine', { labels: { [BENCH_LABEL]: 'earlier' } })
    await bench(cri)
    expect([...cri.pods.keys()]).toEqual(['other', 'mine'])
    await removePods(cri)
    expect([...cri.pods.keys()]).toEqual(['other'])
  })
})

describe('Samples', () => {
  it('has the percentiles by nearest rank', () => {
    const samples = new Samples()
    for (let ms = 100; ms >= 1; ms--) samples.add('x', ms)
    samples.add('y', 1.2345)
    expect(samples.summaries()).toEqual([
      { name: 'x', count: 100, p50Ms: 50, p99Ms: 99, maxMs: 100 },
      { name: 'y', count: 1, p50Ms: 1.23, p99Ms: 1.23, maxMs: 1.23 },
    ])
  })
})
