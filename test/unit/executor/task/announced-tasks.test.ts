import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Announcements } from '../../../../src/executor/task/announcements.ts'
import { NO_STDIO } from '../../../../src/executor/task/stdio.ts'
import type { AnnouncedTask, TaskAnnouncer } from '../../../../src/executor/task/types.ts'
import type { TaskRecord } from '../../../../src/executor/types.ts'

let dir: string
const signal = new AbortController().signal

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'announced-'))
})
afterEach(() => rm(dir, { recursive: true }))

async function record(id: string, announced = true): Promise<TaskRecord> {
  const bundleDir = join(dir, id)
  await mkdir(bundleDir, { recursive: true })
  const spec = `{"ociVersion":"1.0.2","root":{"path":"/roots/${id}"},"limit":18446744073709551615,"text":"18446744073709551615"}`
  await writeFile(join(bundleDir, 'config.json'), spec)
  const endpoint = { address: 'ttrpc+unix:///t', version: 2 }
  return { id, sandboxId: 's', endpoint, announced, bundleDir, cgroupsPath: `/${id}`, options: null }
}

/** Notes what it is told; the first is the slowest. */
class Announcer implements TaskAnnouncer {
  readonly told: string[] = []
  readonly tasks: (readonly AnnouncedTask[])[] = []
  failure: Error | undefined
  #delayMs = 50

  async announce(sandboxId: string, tasks: readonly AnnouncedTask[]): Promise<void> {
    const delayMs = this.#delayMs
    this.#delayMs = 0
    await sleep(delayMs)
    if (this.failure) throw this.failure
    const named = tasks.map(({ task_id, processes }) => [task_id, ...processes.map(({ exec_id }) => exec_id)].join('+'))
    this.told.push(`${sandboxId}: ${named.join(' ')}`)
    this.tasks.push(tasks)
  }
}

it('has all tasks of the sandbox each time, one announcement after the other', async () => {
  const announcer = new Announcer()
  const announcements = new Announcements({ announcer })
  const [old, a, b] = await Promise.all([record('old'), record('a'), record('b')])
  announcements.adopt(old)
  await Promise.all([announcements.add(a, signal), announcements.add(b, signal)])
  await announcements.addProcess(a, { execId: 'x', spec: '{"args":["true"]}', stdio: NO_STDIO }, signal)
  await announcements.remove(old, signal)
  await announcements.removeProcess(a, 'x', signal)
  await announcements.remove(a, signal)
  await announcements.remove(b, signal)
  expect(announcer.told).toEqual(['s: old a b', 's: old a b', 's: old a+x b', 's: a+x b', 's: a b', 's: b', 's: '])
  expect(announcer.tasks[0]?.[1]).toMatchObject({
    spec: { limit: 18446744073709551615n, text: '18446744073709551615' },
    rootfs: [{ type: 'bind', source: '/roots/a', options: ['rbind', 'rw'] }],
  })
})

it('says what the sandboxer says, and is made for nobody else', async () => {
  const announcer = new Announcer()
  const announcements = new Announcements({ announcer })
  announcer.failure = new Error('no')
  await expect(announcements.add(await record('a'), signal)).rejects.toThrow('no')
  announcer.failure = undefined
  const plain = await record('plain', false)
  await announcements.add(plain, signal)
  await announcements.remove(plain, signal)
  expect(announcer.told).toEqual([])
})
