import { describe, expect, it } from 'vitest'
import { Failpoints } from '../../../src/core/failpoints.ts'
import type { Activity, Observer } from '../../../src/core/observer.ts'
import { Operations } from '../../../src/lifecycle/operations.ts'
import { Steps } from '../../../src/lifecycle/steps.ts'

function recorder(): { readonly observer: Observer; readonly begun: Activity[] } {
  const begun: Activity[] = []
  const observer: Observer = {
    run: async (activity, work) => {
      begun.push(activity)
      return work()
    },
    headers: () => ({}),
  }
  return { observer, begun }
}

describe('Operations', () => {
  it('are observed from when they are asked for, with what they wait for', async () => {
    const { observer, begun } = recorder()
    const operations = new Operations({ observer, prefix: 'container-' })
    let release = (): void => undefined
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    const waitsFor = (at: number): string | undefined => {
      const activity = begun[at]
      return activity?.kind === 'operation' ? activity.waitsFor?.() : undefined
    }
    const first = operations.run('a', 'checkpoint 0123abcd', () => gate)
    const second = operations.run('a', 'stop', async () => waitsFor(1))
    const joined = operations.run('a', 'stop', async () => 'not run')
    expect(begun).toMatchObject([
      { kind: 'operation', id: 'a', name: 'container-checkpoint' },
      { kind: 'operation', id: 'a', name: 'container-stop' },
    ])
    expect([waitsFor(0), waitsFor(1)]).toEqual([undefined, 'container-checkpoint'])
    release()
    await first
    expect(await Promise.all([second, joined])).toEqual([undefined, undefined])
  })
})

describe('Steps', () => {
  it('are observed, each as one of whoever they belong to', async () => {
    const { observer, begun } = recorder()
    const steps = new Steps('run', new Failpoints(''), observer)
    const { signal } = new AbortController()
    await steps.run('early', signal, () => undefined)
    steps.of('pod')
    await expect(steps.run('save', signal, async () => 7)).resolves.toBe(7)
    expect(begun).toEqual([
      { kind: 'step', name: 'early', operation: 'run' },
      { kind: 'step', name: 'save', operation: 'run', id: 'pod' },
    ])
  })
})
