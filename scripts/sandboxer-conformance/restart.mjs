// A restart of the sandboxer: sandboxes do not notice, and who waits is answered by the next one.
import { codeOf, inTime, isOpen, must, mustBe } from './trial.mjs'

export const restartChecks = [
  [
    'a restart: a sandbox that runs goes on, and can be waited for again',
    async (trial) => {
      const before = await trial.running()
      const process_ = trial.process(before.pid)
      const cut = codeOf(trial.wait(before.id))
      await trial.restart()
      if (process_) must(trial.isAlive(process_), 'its process has ended')
      const code = (await isOpen(cut, 0)) ? 'open' : await cut
      must(['open', 'Unavailable', 'Canceled'].includes(code), `the Wait of before answers ${code}: it has not ended`)
      const status = await trial.client.status(before.id)
      must(status.ready, `Status is ${status.state}`)
      for (const key of ['pid', 'address', 'version']) {
        must(status[key] === before[key], `${key} is ${status[key]}, and was ${before[key]}`)
      }
      const wait = trial.wait(before.id)
      must(await isOpen(wait, 1000), 'Wait answers while it runs')
      await trial.client.stop(before.id)
      await inTime('Wait after Stop', wait)
      await trial.client.shutdown(before.id)
      await trial.mustBeGone(before.id, process_)
    },
  ],
  [
    'a restart: one that has ended has ended so, and one that was not started can be removed',
    async (trial) => {
      const [ended, created] = [await trial.stopped(), await trial.created()]
      const exit = await inTime('Wait', trial.wait(ended))
      await trial.restart()
      const later = await inTime('Wait after the restart', trial.wait(ended))
      must(later.exitStatus === exit.exitStatus, `exit_status is ${later.exitStatus}, and was ${exit.exitStatus}`)
      must(later.exitedAtNs === exit.exitedAtNs, `exited_at is ${later.exitedAtNs}, and was ${exit.exitedAtNs}`)
      must((await trial.client.status(ended)).state === 'SANDBOX_NOTREADY', 'Status is not SANDBOX_NOTREADY')
      const found = await trial.client.status(created).catch((error) => error)
      must(
        found.code === 'NotFound' || found.ready === false,
        `one that was not started is ${found.state ?? found.code}`,
      )
      for (const id of [ended, created]) {
        await mustBe('Stop', trial.client.stop(id), ['OK'])
        await mustBe('Shutdown', trial.client.shutdown(id), ['OK'])
        await trial.mustBeGone(id)
      }
    },
  ],
  [
    'a restart: ids that nobody knows are answered as before',
    async (trial) => {
      await trial.restart()
      await mustBe('Status', trial.client.status(trial.id()), ['NotFound'])
      await mustBe('Platform', trial.client.platform(trial.id()), ['OK'])
      await mustBe('Stop', trial.client.stop(trial.id()), ['OK'])
      await trial.running()
    },
  ],
]
