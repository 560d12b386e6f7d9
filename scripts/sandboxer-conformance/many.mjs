// Many at once: calls for one sandbox, and sandboxes.
import { FAULTS } from './calls.mjs'
import { codeOf, inTime, isOpen, must } from './trial.mjs'

/** How often the same call is made at the same time. */
const RACERS = 5

export const manyChecks = [
  [
    'of several Creates of one id at once, one succeeds',
    async (trial) => {
      const request = await trial.request()
      const codes = await Promise.all(Array.from({ length: RACERS }, () => codeOf(trial.client.create(request))))
      must(codes.filter((code) => code === 'OK').length === 1, `they answer ${codes.join(', ')}`)
      must(
        codes.every((code) => ['OK', 'AlreadyExists'].includes(code)),
        `they answer ${codes.join(', ')}`,
      )
      await trial.client.start(request.id)
    },
  ],
  [
    'several Starts at once make one process',
    async (trial) => {
      const id = await trial.created()
      const starts = Array.from({ length: RACERS }, () => trial.client.start(id))
      const settled = await Promise.allSettled(starts)
      const pids = settled.filter(({ status }) => status === 'fulfilled').map(({ value }) => value.pid)
      must(pids.length > 0, `none succeeds: ${settled[0].reason?.message}`)
      must(new Set(pids).size === 1, `they tell of processes ${pids.join(', ')}`)
      must((await trial.client.status(id)).ready, 'afterwards it does not run')
    },
  ],
  [
    'Stop and Shutdown, several at once, and while it starts',
    async (trial) => {
      const id = await trial.created()
      const start = trial.client.start(id).then(
        ({ pid }) => ({ code: 'OK', process_: trial.process(pid) }),
        ({ code }) => ({ code, process_: null }),
      )
      const stops = ['stop', 'shutdown', 'stop', 'shutdown'].map((call) => codeOf(trial.client[call](id)))
      const [{ code, process_ }, ...ended] = await inTime('they end', Promise.all([start, ...stops]), 60_000)
      must(code === 'OK' || !FAULTS.has(code) || code === 'Canceled', `Start answers ${code}`)
      // One that comes in between may be refused, as long as the next is not.
      must(
        ended.every((stopped) => !FAULTS.has(stopped) || stopped === 'OK'),
        `the others answer ${ended.join(', ')}`,
      )
      await trial.client.shutdown(id)
      await trial.mustBeGone(id, process_)
    },
  ],
  [
    'many sandboxes at once, each with a Wait',
    async (trial) => {
      const count = trial.options.many
      const sandboxes = await Promise.all(Array.from({ length: count }, () => trial.running()))
      const pids = sandboxes.map(({ pid }) => pid).filter((pid) => pid !== 0)
      must(new Set(pids).size === pids.length, 'two have the same process')
      const waits = sandboxes.map(({ id }) => trial.wait(id))
      must(await isOpen(Promise.race(waits)), 'one has ended by itself')
      const states = await Promise.all(sandboxes.map(async ({ id }) => (await trial.client.status(id)).ready))
      must(states.every(Boolean), `only ${states.filter(Boolean).length} of ${count} run`)
      const [first, ...others] = sandboxes
      await trial.client.stop(first.id)
      await inTime('Wait after Stop', waits[0])
      must(await isOpen(Promise.race(waits.slice(1))), 'the end of one has ended another')
      await Promise.all(others.map(({ id }) => trial.client.stop(id)))
      await inTime('all Waits after Stop', Promise.all(waits))
      const processes = sandboxes.map(({ pid }) => trial.process(pid))
      await Promise.all(sandboxes.map(({ id }) => trial.client.shutdown(id)))
      for (const [i, { id }] of sandboxes.entries()) await trial.mustBeGone(id, processes[i])
      return `${count} of them`
    },
  ],
]
