import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { settled } from './load.ts'
import type { Server } from './server.ts'
import { type Summary, summary } from './stats.ts'

const CREATED = 32
const PAUSE_MS = 5

export interface Reads {
  readonly server: string
  readonly calls: ReadonlyMap<string, Summary>
  /** How late this very process was, which is in the numbers above. */
  readonly driverDelay: Summary
  /** Whether the stop was still hanging when the last pod was there. */
  readonly stopHung: boolean
}

/**
 * Times reads while 32 pods are being created and one StopPodSandbox hangs: its pause process is frozen (SIGSTOP), so that
 * the stop waits for the whole grace period.
 */
export async function measureReads(server: Server, rounds: number): Promise<Reads> {
  const [shim] = server.subjects
  if (!shim) throw new Error(`${server.name} has no subject`)
  const cri = server.cri()
  const kinds = new Map<string, { call: (id: string) => Promise<unknown>; times: number[] }>([
    ['Status', { call: () => cri.notReady(), times: [] }],
    ['ListPodSandbox', { call: () => cri.list(), times: [] }],
    ['PodSandboxStatus', { call: (id) => cri.podStatus(id), times: [] }],
  ])
  const delay = new Delays()
  let stopHung = true
  prefer(true)
  for (let round = 0; round < rounds; round++) {
    const hanging = await shim.up(`reads-hanging-${round}`, false)
    const [pause = 0] = await shim.pids(hanging)
    process.kill(pause, 'SIGSTOP')
    let stopped = false
    const stop = shim.stop(hanging).finally(() => {
      stopped = true
    })
    let creating = true
    const names = Array.from({ length: CREATED }, (_, pod) => `reads-${round}-${pod}`)
    delay.start()
    const created = settled(names.map((name) => shim.up(name, false))).finally(() => {
      creating = false
    })
    const readers = [...kinds.values()].map(async ({ call, times }) => {
      while (creating) {
        const began = performance.now()
        await call(hanging)
        times.push(performance.now() - began)
        await sleep(PAUSE_MS)
      }
    })
    const [ids] = await Promise.all([created, Promise.all(readers)])
    delay.stop()
    stopHung &&= !stopped
    process.kill(pause, 'SIGCONT')
    await stop
    await shim.remove(hanging)
    await settled(ids.map((id) => shim.stop(id)))
    await settled(ids.map((id) => shim.remove(id)))
  }
  prefer(false)
  return {
    server: server.name,
    calls: new Map([...kinds].map(([name, { times }]) => [name, summary(times)])),
    driverDelay: summary(delay.values),
    stopHung,
  }
}

/**
 * Lets this process go first, or no longer: that it waits for a processor, which it shares with 32 pods being made, says
 * nothing of the daemon. Where the kernel has no autogroups (sched(7)) the delay of the driver shows what that costs.
 */
function prefer(first: boolean): void {
  try {
    writeFileSync('/proc/self/autogroup', first ? '-15' : '0')
  } catch (error) {
    console.error(`bench: the priority stays as it is: ${String(error)}`)
  }
}

/** How much later than asked for a timer of this process fires, every few milliseconds. */
class Delays {
  readonly values: number[] = []
  #timer: NodeJS.Timeout | undefined

  start(): void {
    let due = performance.now() + PAUSE_MS
    this.#timer = setInterval(() => {
      const now = performance.now()
      this.values.push(Math.max(0, now - due))
      due = now + PAUSE_MS
    }, PAUSE_MS)
  }

  stop(): void {
    clearInterval(this.#timer)
  }
}
