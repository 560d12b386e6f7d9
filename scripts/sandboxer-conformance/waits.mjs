// Wait: a long poll that answers once the sandbox has ended, and never before.
import { codeOf, inTime, isOpen, must, mustBe, Skipped, soon } from './trial.mjs'

/** Who waits at the same time. */
const WAITERS = 10

export const waitChecks = [
  [
    'Wait stays open while the sandbox runs, and answers when it is stopped',
    async (trial) => {
      const { id } = await trial.running()
      const wait = trial.wait(id)
      must(await isOpen(wait, 1000), 'it has answered while the sandbox runs')
      await trial.client.stop(id)
      const { exitedAtNs } = await inTime('Wait after Stop', wait)
      must(exitedAtNs !== null, 'exited_at is not set')
    },
  ],
  [
    'Wait answers at once when the sandbox has ended before, and the same again',
    async (trial) => {
      const { id } = await trial.running()
      const wait = trial.wait(id)
      await trial.client.stop(id)
      const [first, later] = [await inTime('Wait', wait), await inTime('a later Wait', trial.wait(id), 2000)]
      must(later.exitStatus === first.exitStatus, `exit_status is ${later.exitStatus}, and was ${first.exitStatus}`)
      must(later.exitedAtNs === first.exitedAtNs, `exited_at is ${later.exitedAtNs}, and was ${first.exitedAtNs}`)
    },
  ],
  [
    'everybody who waits is answered',
    async (trial) => {
      const { id } = await trial.running()
      const other = trial.connect()
      const waits = Array.from({ length: WAITERS }, (_, i) => (i % 2 === 0 ? trial.wait(id) : other.wait(id)))
      must(await isOpen(Promise.race(waits)), 'one has answered while the sandbox runs')
      await trial.client.stop(id)
      const exits = await inTime(`${WAITERS} Waits after Stop`, Promise.all(waits))
      must(new Set(exits.map(({ exitStatus }) => exitStatus)).size === 1, 'they are told different things')
    },
  ],
  [
    'who waits and goes away takes nobody along',
    async (trial) => {
      const { id } = await trial.running()
      const [gone, stays] = [new AbortController(), trial.wait(id)]
      const leaving = codeOf(trial.wait(id, { signal: gone.signal }).catch(() => undefined))
      const closed = trial.connect()
      const cut = codeOf(closed.wait(id))
      must(await isOpen(Promise.race([leaving, cut, stays])), 'one has answered while the sandbox runs')
      gone.abort()
      closed.close()
      await Promise.all([leaving, cut])
      must(await isOpen(stays), 'the other Wait has ended with it')
      must((await trial.client.status(id)).ready, 'the sandbox has ended with it')
      await trial.client.stop(id)
      await inTime('the Wait that has stayed', stays)
    },
  ],
  [
    'Wait for a sandbox that was not started ends with its Shutdown, at the latest',
    async (trial) => {
      const id = await trial.created()
      const wait = codeOf(trial.wait(id))
      await isOpen(wait)
      await trial.client.shutdown(id)
      await inTime('Wait after Shutdown', wait)
    },
  ],
  [
    'Wait answers when the process of the sandbox is killed, and Status says so',
    async (trial) => {
      const { id, pid } = await trial.running()
      const process_ = trial.process(pid)
      if (!process_) throw new Skipped('there is no process to be seen')
      const wait = trial.wait(id)
      must(await isOpen(wait), 'it has answered while the sandbox runs')
      trial.kill(process_)
      const { exitStatus } = await inTime('Wait after the kill', wait)
      must(exitStatus !== 0, 'exit_status is 0, of a process that was killed')
      await soon('Status is SANDBOX_NOTREADY', async () => (await trial.client.status(id)).state === 'SANDBOX_NOTREADY')
      await mustBe('Stop', trial.client.stop(id), ['OK'])
      await mustBe('Shutdown', trial.client.shutdown(id), ['OK'])
      await trial.mustBeGone(id)
      return exitStatus === 137 ? undefined : `exit_status is ${exitStatus}`
    },
  ],
]
