import { describe, expect, it } from 'vitest'
import { forgetOwed } from '../../../src/daemon/doctor/forget-owed.ts'
import type { Node } from '../../../src/daemon/node.ts'
import type { LedgerEntry } from '../../../src/store/ledger.ts'

const [POD, CONTAINER] = ['a'.repeat(64), 'b'.repeat(64)]

function entry(ownerId: string, seq: number, state: LedgerEntry['state']): LedgerEntry {
  return { ownerId, seq, kind: 'directory', state, record: { path: `/d/${seq}` }, bootId: 'boot' }
}

/** A sandbox and a container, each with an entry of every state, and what was done. */
function make() {
  const done: string[] = []
  const ownerOf = (id: string) => ({
    id,
    entries: [entry(id, 0, 'held'), entry(id, 1, 'intended'), entry(id, 2, 'releasing')],
    save: async ({ strike }: { readonly strike: readonly LedgerEntry[] }) => {
      done.push(...strike.map(({ seq }) => `strike ${seq}`))
    },
  })
  const managerOf = (name: string, id: string) => ({
    all: () => [ownerOf(id)],
    alone: async <T>(asked: string, work: () => Promise<T>) => {
      done.push(`${name} alone ${asked.slice(0, 1)}`)
      return work()
    },
    retryOwed: async () => void done.push(`${name} retry`),
  })
  const node = { sandboxes: managerOf('sandboxes', POD), containers: managerOf('containers', CONTAINER) }
  const logger = { warn: ({ id }: { readonly id: string }) => void done.push(`log ${id.slice(0, 1)}`) }
  const forget = (id: string, seq: number): Promise<LedgerEntry> =>
    forgetOwed(id, seq, { node: node as unknown as Node, logger: logger as never })
  return { forget, done }
}

describe('forgetOwed', () => {
  it.each([
    ['sandbox', POD, ['sandboxes alone a', 'strike 2', 'log a', 'sandboxes retry']],
    ['container', CONTAINER, ['containers alone b', 'strike 2', 'log b', 'containers retry']],
  ])(
    'strikes out what a %s owes while nothing else is done with it, then goes on with the rest',
    async (_, id, told) => {
      const { forget, done } = make()
      expect(await forget(id, 2)).toMatchObject({ ownerId: id, seq: 2 })
      expect(done).toEqual(told)
    },
  )

  it.each([
    ['held', 0],
    ['intended', 1],
  ])('refuses what is %s, which would be lost with it', async (state, seq) => {
    const { forget, done } = make()
    await expect(forget(POD, seq)).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: expect.stringContaining(`its release is not owed: it is ${state}`) as string,
    })
    expect(done).toEqual(['sandboxes alone a'])
  })

  it.each([
    ['entry', POD, 7],
    ['owner', 'c'.repeat(64), 2],
  ])('says when there is no such %s', async (_, id, seq) => {
    const { forget, done } = make()
    await expect(forget(id, seq)).rejects.toMatchObject({ code: 'NotFound' })
    expect(done).toEqual([`sandboxes alone ${id.slice(0, 1)}`])
  })
})
