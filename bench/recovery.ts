import { Cri, listening, ready } from './cri.ts'
import { settled } from './load.ts'
import type { Server } from './server.ts'

const START_MS = 60_000
const AT_A_TIME = 8

export interface Recovery {
  readonly server: string
  readonly pods: number
  /** From kill -9 to the first answer of ListPodSandbox; in between the daemon is started again at once. */
  readonly firstAnswerMs: number
  /** From kill -9 until ListPodSandbox shows all pods READY. */
  readonly allReadyMs: number
  readonly daemonRssKib: number
}

/** Kills the daemon with that many pods, starts it again and asks; for each of the numbers, which ascend. */
export async function measureRecovery(
  server: Server,
  podCounts: readonly number[],
  rounds: number,
  rssKib: (pid: number) => number,
): Promise<Recovery[]> {
  const [subject] = server.subjects
  if (!subject) throw new Error(`${server.name} has no subject`)
  const results: Recovery[] = []
  const ids: string[] = []
  for (const pods of podCounts) {
    while (ids.length < pods) {
      const count = Math.min(AT_A_TIME, pods - ids.length)
      const names = Array.from({ length: count }, (_, pod) => `killed-${ids.length + pod}`)
      ids.push(...(await settled(names.map((name) => subject.up(name, false)))))
    }
    for (let round = 0; round < rounds; round++) {
      const times = await killAndAsk(server, pods)
      results.push({ server: server.name, pods, ...times, daemonRssKib: rssKib(server.daemon.pid) })
    }
  }
  for (let at = 0; at < ids.length; at += AT_A_TIME) {
    await settled(ids.slice(at, at + AT_A_TIME).map((id) => subject.stop(id)))
    await settled(ids.slice(at, at + AT_A_TIME).map((id) => subject.remove(id)))
  }
  return results
}

async function killAndAsk(server: Server, pods: number): Promise<{ firstAnswerMs: number; allReadyMs: number }> {
  const began = performance.now()
  await server.daemon.end('SIGKILL')
  await server.daemon.start()
  await listening(server.socket, START_MS, server.daemon)
  const cri = new Cri(server.socket)
  try {
    let firstAnswerMs = 0
    for (;;) {
      // A daemon may listen before it serves.
      const items = await cri.list().catch(() => undefined)
      const now = performance.now() - began
      if (items && firstAnswerMs === 0) firstAnswerMs = now
      const running = items?.filter(({ state }) => state === 'SANDBOX_READY').length
      if (running === pods) return { firstAnswerMs, allReadyMs: now }
      if (now > START_MS) throw new Error(`${server.name}: ${running} of ${pods} pods are ready after ${START_MS} ms`)
    }
  } finally {
    cri.close()
    // The client of everybody else has to find the new daemon first.
    await ready(server.cri(), START_MS, () => server.daemon.logTail())
  }
}
