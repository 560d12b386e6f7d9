import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Activity } from '../../../src/core/observer.ts'
import { createLogger } from '../../../src/telemetry/logger.ts'
import { LongOperations } from '../../../src/telemetry/long-operations.ts'

let lines: Record<string, unknown>[]
let observer: LongOperations
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  lines = []
  const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>)
  observer = new LongOperations({ logger: createLogger({ level: 'info', format: 'json' }, { write }) })
})
afterEach(() => void vi.useRealTimers())

/** Something that lasts until it is ended. */
function lasting(activity: object): { readonly done: Promise<void>; readonly end: () => void } {
  let end = (): void => undefined
  const until = new Promise<void>((resolve) => {
    end = resolve
  })
  return { done: observer.run(activity as Activity, () => until), end: () => end() }
}

describe('LongOperations', () => {
  it('says every 30 seconds what an operation waits for, and how old it is', async () => {
    const operation = lasting({ kind: 'operation', name: 'run', id: 'a' })
    lasting({ kind: 'step', name: 'setupSandboxNetwork', operation: 'run', id: 'a' })
    vi.advanceTimersByTime(29_000)
    expect(lines).toEqual([])
    vi.advanceTimersByTime(1000)
    const plugin = lasting({ kind: 'cni', name: 'ADD', plugin: 'bridge', id: 'a' })
    lasting({ kind: 'cni', name: 'DEL', plugin: 'bridge', id: 'b' })
    vi.advanceTimersByTime(30_000)
    plugin.end()
    await plugin.done
    vi.advanceTimersByTime(30_000)
    operation.end()
    await operation.done
    vi.advanceTimersByTime(90_000)
    const told = lines.map(({ level, id, operation: name, waitsFor, seconds }) => [level, id, name, waitsFor, seconds])
    expect(told).toEqual([
      ['warn', 'a', 'run', ['setupSandboxNetwork'], 30],
      ['warn', 'a', 'run', ['setupSandboxNetwork', 'bridge ADD'], 60],
      ['warn', 'a', 'run', ['setupSandboxNetwork'], 90],
    ])
  })

  it('names the operation that one waits for, and not what that is doing', () => {
    lasting({ kind: 'operation', name: 'stop', id: 'a', waitsFor: () => undefined })
    lasting({ kind: 'runtime', name: 'kill', runtime: 'crun', id: 'a' })
    lasting({ kind: 'operation', name: 'remove', id: 'a', waitsFor: () => 'stop' })
    vi.advanceTimersByTime(30_000)
    expect(lines.map(({ operation, waitsFor }) => [operation, waitsFor])).toEqual([
      ['stop', ['crun kill']],
      ['remove', ['operation stop']],
    ])
  })

  it('gives back what came of the work, also a failure, and says nothing any more then', async () => {
    const activity = { kind: 'operation', name: 'stop', id: 'a' } as Activity
    expect(await observer.run(activity, async () => 7)).toBe(7)
    const failing = observer.run(activity, async () => {
      throw new Error('gone')
    })
    await expect(failing).rejects.toThrow('gone')
    vi.advanceTimersByTime(60_000)
    expect(lines).toEqual([])
  })
})
