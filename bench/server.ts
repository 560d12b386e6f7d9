import { Cri, listening, ready } from './cri.ts'
import type { Machine } from './machine.ts'
import type { Daemon } from './process.ts'
import { criSubject, type Subject } from './subject.ts'

const START_MS = 30_000

/** A CRI daemon that the bench owns, and the subjects behind it. */
export interface Server extends AsyncDisposable {
  readonly name: string
  readonly subjects: readonly Subject[]
  readonly cri: () => Cri
  readonly daemon: Daemon
  readonly socket: string
}

/** Starts a CRI daemon and waits until it can run pods. */
export async function serve(
  name: string,
  daemon: Daemon,
  socket: string,
  machine: Machine,
  handlers: readonly { name: string; handler: string; pidPerContainer: boolean }[],
): Promise<Server> {
  await daemon.start()
  let cri: Cri | undefined
  try {
    await listening(socket, START_MS, daemon)
    cri = new Cri(socket)
    await ready(cri, START_MS, () => daemon.logTail())
  } catch (error) {
    cri?.close()
    await daemon.end('SIGTERM')
    throw error
  }
  const client = cri
  const subjects = handlers.map((handler) =>
    criSubject({ ...handler, daemonPid: () => daemon.pid }, { cri: () => client, machine }),
  )
  return {
    name,
    subjects,
    cri: () => client,
    daemon,
    socket,
    [Symbol.asyncDispose]: async () => {
      await removeAll(client)
      client.close()
      await daemon.end('SIGTERM')
    },
  }
}

/** Whatever a run that failed has left. */
async function removeAll(cri: Cri): Promise<void> {
  try {
    for (const { id } of await cri.list()) {
      await cri.stop(id)
      await cri.remove(id)
    }
  } catch (error) {
    console.error(`bench: pods are left: ${String(error)}`)
  }
}
