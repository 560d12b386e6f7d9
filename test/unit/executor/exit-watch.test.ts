import { setMaxListeners } from 'node:events'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ExitWatch, type Watch } from '../../../src/executor/exit-watch.ts'
import { identifyProcess, type ProcessIdentity, readBootId } from '../../../src/host/process.ts'

const bootId = readBootId()
/** No process has this start time. */
const ended: ProcessIdentity = { pid: process.pid, startTime: '1', bootId }
const running = (): ProcessIdentity => identifyProcess(process.pid, bootId) ?? ended
const { signal } = new AbortController()
setMaxListeners(0, signal)

let directory: string
let exits: ExitWatch
let lingering: string[]

function watch(id: string, facts: Partial<Watch> = {}): Watch {
  const onLinger = async (): Promise<void> => {
    lingering.push(id)
  }
  return { id, process: ended, monitor: null, onLinger, ...facts }
}

/** As conmon writes it: whole, or not at all. */
async function ends(id: string, code: number): Promise<void> {
  await writeFile(join(directory, `${id}.tmp`), String(code))
  await rename(join(directory, `${id}.tmp`), join(directory, id))
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'exits-'))
  exits = new ExitWatch({ directory, bootId }, { logger: pino({ level: 'silent' }) })
  lingering = []
})
afterEach(async () => {
  exits[Symbol.dispose]()
  await rm(directory, { recursive: true })
})

describe('ExitWatch', () => {
  it('sees what was written before anybody watched', async () => {
    await ends('a', 7)
    expect(await exits.wait(watch('a', { process: running() }), signal)).toMatchObject({ code: 7, reason: 'Exited' })
  })

  it('tells all who wait for the same, but not those who have given up', async () => {
    const given = new AbortController()
    const waits = [1, 2].map(() => exits.wait(watch('a', { process: running() }), signal))
    const givenUp = exits.wait(watch('a', { process: running() }), given.signal)
    given.abort(new Error('enough'))
    await expect(givenUp).rejects.toThrow('enough')
    await ends('a', 7)
    expect((await Promise.all(waits)).map(({ code }) => code)).toEqual([7, 7])
  })

  it('loses none of many ends that come while nobody listens', async () => {
    const ids = Array.from({ length: 1000 }, (_, index) => `id-${index}`)
    const waits = ids.map((id) => exits.wait(watch(id, { monitor: running() }), signal))
    const writes = ids.map((id, index) => ends(id, index % 250))
    // Long enough for a sweep to be missed, and for what the kernel queues to overflow.
    const until = performance.now() + 1200
    while (performance.now() < until);
    await Promise.all(writes)
    expect((await Promise.all(waits)).map(({ code }) => code)).toEqual(ids.map((_, index) => index % 250))
  }, 30_000)

  it('gives up what has ended together with its monitor', async () => {
    const started = performance.now()
    const exit = await exits.wait(watch('a', { monitor: ended }), signal)
    expect(exit).toMatchObject({ code: 255, reason: 'Unknown' })
    expect(performance.now() - started).toBeLessThan(5000)
    expect(lingering).toEqual([])
  })

  it('waits for a monitor that runs, and says that something lingers', async () => {
    const wait = exits.wait(watch('a', { monitor: running() }), signal)
    await expect.poll(() => lingering, { timeout: 5000 }).toEqual(['a'])
    await ends('a', 3)
    expect(await wait).toMatchObject({ code: 3, reason: 'Exited' })
    expect(lingering).toEqual(['a'])
  })
})
