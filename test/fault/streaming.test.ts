import { afterAll, describe, expect, it } from 'vitest'
import { type DaemonFacts, daemonFacts, processesIn, settledFacts } from '../support/daemon-facts.ts'
import { sharedDaemon } from '../support/daemon.ts'
import { DaemonStreams, type Transport } from '../support/daemon-streams.ts'
import type { RemoteCommandClient } from '../support/streaming-client.ts'
import { TestPod } from '../support/test-pod.ts'

const TRANSPORTS: readonly Transport[] = ['spdy', 'websocket']
const WAIT = { timeout: 20_000, interval: 100 }
const ALL = { stdin: true, stdout: true, stderr: true }

const transportOf = (number: number): Transport => TRANSPORTS[number % 2] ?? 'spdy'

/** Does it so many times, some at a time. */
async function repeatedly(times: number, work: (number: number) => Promise<void>): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    for (let number = next++; number < times; number = next++) await work(number)
  }
  await Promise.all(Array.from({ length: 8 }, worker))
}

describe('a daemon', () => {
  const daemon = sharedDaemon()
  const streams = new DaemonStreams(daemon)
  afterAll(async () => {
    await streams[Symbol.asyncDispose]()
  })

  it('has nothing left of three hundred commands that could not be started', async () => {
    const id = await (await TestPod.run(daemon())).start()
    const missing = async (number: number): Promise<void> => {
      const client = await streams.exec(id, ['/no/such/program'], ALL, transportOf(number))
      await expect(client.status).resolves.toMatchObject({ status: 'Failure' })
      await client.close()
    }
    await repeatedly(30, missing)
    const facts = await settledFacts(daemon())
    await repeatedly(300, missing)
    await expect.poll(() => daemonFacts(daemon()), WAIT).toEqual(facts)
    await expect.poll(() => processesIn(daemon(), id), WAIT).toHaveLength(2)
  })

  it('has nothing left of three hundred clients that came and vanished', async () => {
    const pod = await TestPod.run(daemon())
    const id = await pod.start({ command: ['/bin/cat'], stdin: true })
    const leave = async (number: number): Promise<void> => {
      const client =
        number % 4 < 2
          ? await streams.attach(id, ALL, transportOf(number))
          : await streams.exec(id, ['sleep', '1000'], ALL, transportOf(number))
      client.destroy()
    }
    await repeatedly(30, leave)
    await expect.poll(() => processesIn(daemon(), id), WAIT).toHaveLength(1)
    const facts = await settledFacts(daemon())
    await repeatedly(300, leave)
    await expect.poll(() => processesIn(daemon(), id), WAIT).toHaveLength(1)
    await expect.poll(() => daemonFacts(daemon()), WAIT).toEqual(facts)
    expect((await daemon().client.containers.status(id)).state).toBe('CONTAINER_RUNNING')
  })

  it('has as many threads with two hundred clients of silent containers as with eight, and all of them to use', async () => {
    const pod = await TestPod.run(daemon())
    const ids: string[] = []
    for (let number = 0; number < 4; number++) ids.push(await pod.start({ command: ['/bin/cat'], stdin: true }))
    const attach = async (number: number): Promise<RemoteCommandClient> =>
      streams.attach(ids[number % 4] ?? '', ALL, transportOf(number >> 2))
    const many = (): Promise<string[]> =>
      Promise.all(Array.from({ length: 8 }, (_, number) => pod.prints(`echo ${number}`)))
    const together = async (count: number): Promise<{ threads: number; after: DaemonFacts }> => {
      const clients: RemoteCommandClient[] = []
      await repeatedly(count, async (number) => {
        clients[number] = await attach(number)
      })
      const { threads } = await settledFacts(daemon())
      // A thread of the pool that waits for a container's output would be missing here, and with four of them all would.
      expect(await many()).toEqual(['0', '1', '2', '3', '4', '5', '6', '7'])
      const heard = clients.map(firstOf)
      for (const number of [0, 1, 2, 3]) clients[number]?.stdin?.write(`to ${number}\n`)
      expect(await Promise.all(heard)).toEqual(clients.map((_, number) => `to ${number % 4}\n`))
      for (const client of clients) client.destroy()
      return { threads, after: await settledFacts(daemon()) }
    }
    await together(8)
    const few = await together(8)
    expect(await together(200)).toEqual(few)
  })
})

/** The first that comes. */
async function firstOf({ stdout }: RemoteCommandClient): Promise<string> {
  for await (const chunk of stdout as AsyncIterable<Buffer>) return chunk.toString()
  throw new Error('nothing came')
}
