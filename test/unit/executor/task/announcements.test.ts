import { expect, it } from 'vitest'
import { CodedError, type ErrorCode } from '../../../../src/core/errors.ts'
import { Announcements } from '../../../../src/executor/task/announcements.ts'
import type { TaskRecord } from '../../../../src/executor/types.ts'

const record: TaskRecord = {
  id: 'c'.repeat(64),
  sandboxId: 'a'.repeat(64),
  endpoint: { address: 'ttrpc+unix:///t.sock', version: 2 },
  announced: true,
  bundleDir: '/nowhere',
  cgroupsPath: '/c',
  options: null,
}
const { signal } = new AbortController()

function announcements(code?: ErrorCode): { announcements: Announcements; told: number[] } {
  const told: number[] = []
  const announce = async (_: string, tasks: readonly unknown[]): Promise<void> => {
    told.push(tasks.length)
    if (code) throw new CodedError(code, 'test')
  }
  return { announcements: new Announcements({ announcer: { announce } }), told }
}

it('tells nobody of containers that are not to be announced', async () => {
  const { announcements: silent, told } = announcements('Internal')
  await silent.add({ ...record, announced: false }, signal)
  await silent.remove({ ...record, announced: false }, signal)
  expect(told).toEqual([])
})

it('need not tell of the end of a container when its sandbox is gone, or there is nobody to be told', async () => {
  const { announcements: gone, told } = announcements('NotFound')
  gone.adopt(record)
  await gone.remove(record, signal)
  expect(told).toEqual([0])
})

it('owes the end of a container to a sandboxer that cannot be reached', async () => {
  const { announcements: down, told } = announcements('Unavailable')
  down.adopt(record)
  await expect(down.remove(record, signal)).rejects.toMatchObject({ code: 'Unavailable' })
  await expect(down.remove(record, signal)).rejects.toMatchObject({ code: 'Unavailable' })
  expect(told).toEqual([0, 0])
})
