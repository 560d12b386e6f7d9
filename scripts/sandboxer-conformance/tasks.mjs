// Containers, at the Task service that Start tells of.
import { Container } from './container.mjs'
import { codeOf, inTime, isOpen, must, mustBe, Skipped, soon } from './trial.mjs'

const EXIT = 7

export const taskChecks = [
  [
    'a container runs, and its exit code is told',
    async (trial) => {
      const container = await createContainer(trial, await sandbox(trial), `exit ${EXIT}`)
      const exit = container.wait()
      must(await isOpen(exit), 'Task.Wait answers before the container is started')
      await container.start()
      must((await inTime('Task.Wait', exit)).exit_status === EXIT, `exit_status is ${(await exit).exit_status}`)
      must((await inTime('a later Task.Wait', container.wait())).exit_status === EXIT, 'a later Task.Wait differs')
      must((await container.state()).status === 'STOPPED', 'Task.State is not STOPPED')
      must((await container.delete()).exit_status === EXIT, 'Task.Delete tells of another exit code')
      await mustBe('Task.State after Delete', container.state(), ['NotFound'])
    },
  ],
  [
    'a container whose root file system is mounted already',
    async (trial) => {
      const container = await createContainer(trial, await sandbox(trial), 'exit 0', { mounted: true })
      await container.start()
      must((await inTime('Task.Wait', container.wait())).exit_status === 0, 'exit_status is not 0')
      await container.delete()
    },
  ],
  [
    'a container that runs: State, Pids, Stats, Exec, Kill',
    async (trial) => {
      const { id, ...at } = await sandbox(trial)
      const container = await createContainer(trial, { id, ...at }, 'exec sleep 1000')
      await container.start()
      const { status, pid } = await container.state()
      must(status === 'RUNNING', `Task.State is ${status}`)
      must(
        (await container.pids()).some((process_) => process_.pid === pid),
        'its process is not in Task.Pids',
      )
      const { type_url: type } = await container.stats()
      must(/io\.containerd\.cgroups\.v[12]\.Metrics$/.test(type), `Task.Stats are a "${type}"`)
      must((await inTime('exec', container.exec(`exit ${EXIT}`))) === EXIT, 'a command in it has another exit code')
      const exit = container.wait()
      await container.kill('', 9)
      must((await inTime('Task.Wait', exit)).exit_status === 137, `exit_status is ${(await exit).exit_status}`)
      // containerd goes on only after these.
      await mustBe('Task.Kill of one that has ended', container.kill('', 9), ['OK', 'NotFound'])
      await container.delete()
    },
  ],
  [
    'Task.Shutdown takes no other container along',
    async (trial) => {
      const at = await sandbox(trial)
      const [one, other] = [
        await createContainer(trial, at, 'exec sleep 1000'),
        await createContainer(trial, at, 'exit 0'),
      ]
      await one.start()
      await other.start()
      await inTime('Task.Wait', other.wait())
      await other.delete()
      // iSulad sends it after every container.
      await codeOf(other.shutdown())
      must((await one.state()).status === 'RUNNING', 'the other container does not run any more')
      must((await trial.client.status(at.id)).ready, 'the sandbox does not run any more')
    },
  ],
  [
    'containers end with their sandbox',
    async (trial) => {
      const at = await sandbox(trial)
      const container = await createContainer(trial, at, 'exec sleep 1000')
      await container.start()
      const process_ = trial.process((await container.state()).pid)
      await trial.client.stop(at.id)
      if (process_) await soon('its process ends', () => !trial.isAlive(process_))
      await trial.client.shutdown(at.id)
      await trial.mustBeGone(at.id)
    },
  ],
  [
    'a restart: containers go on, and who waits for them does not notice',
    async (trial) => {
      const at = await sandbox(trial)
      const container = await createContainer(trial, at, 'exec sleep 1000')
      await container.start()
      const exit = container.wait()
      await trial.restart()
      must(await isOpen(exit), 'Task.Wait has ended')
      must((await container.exec(`exit ${EXIT}`)) === EXIT, 'a command in it has another exit code')
      await container.kill('', 9)
      must((await inTime('Task.Wait', exit)).exit_status === 137, `exit_status is ${(await exit).exit_status}`)
    },
  ],
]

async function sandbox(trial) {
  if (!trial.options.tasks) throw new Skipped('no --tasks')
  return trial.running()
}

async function createContainer(trial, at, script, how) {
  const container = await Container.prepare(trial, at, script, how)
  await container.create()
  return container
}
