import { describe, expect, it } from 'vitest'
import { Happenings } from '../../../src/admin/happenings.ts'
import type { LifecycleEvent } from '../../../src/lifecycle/events.ts'

const pods = new Map([['s1', { name: 'web', namespace: 'default' }]])
const containers = new Map([['c1', 'nginx']])

function make(): Happenings {
  return new Happenings({ names: { pods: () => new Map(pods), containers: () => new Map(containers) } })
}

function event(changes: Partial<LifecycleEvent> = {}): LifecycleEvent {
  return { type: 'STARTED', containerId: 'c1', sandboxId: 's1', atNs: 1_700_000_000_123_456_789n, ...changes }
}

describe('Happenings', () => {
  it('tells what happens, with names', async () => {
    const happenings = make()
    const end = new AbortController()
    const told = happenings.follow(end.signal)
    happenings.publish(event())
    const pod = { name: 'web', namespace: 'default' }
    const expected = { at: '2023-11-14T22:13:20.123Z', type: 'STARTED', id: 'c1', sandboxId: 's1', name: 'nginx', pod }
    expect((await told.next()).value).toEqual(expected)
    happenings.publish(event({ containerId: 's1' }))
    expect((await told.next()).value).toMatchObject({ id: 's1', name: 'web' })
    end.abort()
  })

  it('knows the names of what has gone away meanwhile', async () => {
    const all = new Map(pods)
    const happenings = new Happenings({ names: { pods: () => all, containers: () => [] } })
    const told = happenings.follow(new AbortController().signal)
    all.set('s2', { name: 'db', namespace: 'default' })
    happenings.publish(event({ type: 'CREATED', containerId: 's2', sandboxId: 's2' }))
    all.clear()
    happenings.publish(event({ type: 'DELETED', containerId: 's2', sandboxId: 's2' }))
    await told.next()
    expect((await told.next()).value).toMatchObject({ type: 'DELETED', name: 'db' })
  })

  it('bounds how many follow, and takes one back who leaves', async () => {
    const happenings = make()
    const ends = Array.from({ length: 32 }, () => new AbortController())
    for (const { signal } of ends) happenings.follow(signal)
    expect(() => happenings.follow(new AbortController().signal)).toThrow('32 clients do so already')
    ends[0]?.abort()
    expect(() => happenings.follow(new AbortController().signal)).not.toThrow()
  })

  it('keeps no place for one who has gone before it began', () => {
    const happenings = make()
    for (let n = 0; n < 40; n++) expect(() => happenings.follow(AbortSignal.abort(new Error('gone')))).toThrow('gone')
    expect(() => happenings.follow(new AbortController().signal)).not.toThrow()
  })

  it('cuts off who is too far behind, after what was kept for it', async () => {
    const happenings = make()
    const told = happenings.follow(new AbortController().signal)
    for (let n = 0; n < 1001; n++) happenings.publish(event())
    for (let n = 0; n < 1000; n++) await told.next()
    await expect(told.next()).rejects.toMatchObject({ code: 'ResourceExhausted' })
  })
})
