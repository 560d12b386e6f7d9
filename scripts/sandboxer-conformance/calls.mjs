// Each method by itself: what it answers, once, twice, and for sandboxes that are half made.
import { codeOf, inTime, must, mustBe, Skipped } from './trial.mjs'

/** What Status says of a sandbox that runs, and of one that does not. */
const READY = 'SANDBOX_READY'
const NOT_READY = 'SANDBOX_NOTREADY'
/** A clock may be set, and a virtual machine has its own. */
const MAX_SKEW_MS = 60_000
/** Not what a request is answered with that cannot be done. */
export const FAULTS = new Set(['OK', 'Internal', 'Unavailable', 'DeadlineExceeded', 'Canceled'])

export const callChecks = [
  [
    'a sandbox lives: Create, Start, Status, Stop, Wait, Shutdown',
    async (trial) => {
      const id = await trial.created()
      const { pid } = await trial.client.start(id)
      const process_ = trial.process(pid)
      must((await trial.client.status(id)).state === READY, `Status after Start is not ${READY}`)
      await trial.client.stop(id)
      await inTime('Wait after Stop', trial.wait(id))
      must((await trial.client.status(id)).state === NOT_READY, `Status after Stop is not ${NOT_READY}`)
      await trial.client.shutdown(id)
      await trial.mustBeGone(id, process_)
    },
  ],
  [
    'Start tells when the sandbox was made, and where its containers run',
    async (trial) => {
      const { createdAtNs, address, version, pid } = await trial.running()
      must(createdAtNs !== null, 'created_at is not set')
      const ageMs = Date.now() - Number(createdAtNs / 1_000_000n)
      must(Math.abs(ageMs) < MAX_SKEW_MS, `created_at is ${ageMs} ms ago`)
      must(address !== '', 'address is empty: containerd refuses to start a container')
      must(
        /^(grpc\+\/|ttrpc\+(unix|vsock|hvsock):\/\/|unix:\/\/)/.test(address),
        `address ${address} is of no known form`,
      )
      must(!address.startsWith('grpc+unix:'), `containerd cannot dial ${address}: it wants grpc+/path`)
      if (version < 3) return `version ${version}: containerd from 2.1 on runs containers by itself then`
      return pid === 0 ? 'there is no process to be seen' : undefined
    },
  ],
  [
    'Status says what Start has said, and the id',
    async (trial) => {
      const { id, ...started } = await trial.running()
      const status = await trial.client.status(id)
      must(status.id === id, `sandbox_id is "${status.id}": containerd takes it for the id of the sandbox`)
      for (const key of ['pid', 'address', 'version']) {
        must(status[key] === started[key], `${key} is ${status[key]}, and was ${started[key]}`)
      }
      must(status.createdAtNs !== null, 'created_at is not set')
      must(status.exitedAtNs === null, 'exited_at is set')
    },
  ],
  [
    'Status has the words that front ends know',
    async (trial) => {
      const { client } = trial
      const id = await trial.created()
      const before = (await client.status(id)).state
      must(before !== READY, `it is ${before} before Start`)
      await client.start(id)
      must((await client.status(id)).state === READY, `it is not ${READY} after Start`)
      await client.stop(id)
      const { state, exitedAtNs } = await client.status(id)
      must(state === NOT_READY, `it is ${state} after Stop`)
      must(exitedAtNs !== null, 'exited_at is not set after Stop')
    },
  ],
  [
    'Status, verbose, has info that can be read',
    async (trial) => {
      const { id } = await trial.running()
      const { info } = await trial.client.status(id, { verbose: true })
      if (Object.keys(info).length === 0) throw new Skipped('it has none')
      if (info.info === undefined) return `its keys are ${Object.keys(info).join(', ')}`
      const value = JSON.parse(info.info)
      must(typeof value === 'object' && value !== null && !Array.isArray(value), 'info.info is no JSON object')
    },
  ],
  [
    'Platform is that of containers',
    async (trial) => {
      const { id } = await trial.running()
      const { os, architecture } = await trial.client.platform(id)
      must(os === 'linux', `os is "${os}": containerd wants linux`)
      must(architecture !== '', 'architecture is empty')
    },
  ],
  [
    'Metrics can be decoded, and grow',
    async (trial) => {
      const { id } = await trial.running()
      if ((await mustBe('Metrics', trial.client.metrics(id), ['OK', 'Unimplemented'])) !== 'OK') {
        throw new Skipped('it has none')
      }
      const { data, usage } = await trial.client.metrics(id)
      if (data === null) throw new Skipped('it has none')
      must(usage !== null, `they are a ${data.typeUrl}, which is no io.containerd.cgroups.v1.Metrics or v2.Metrics`)
      const later = (await trial.client.metrics(id)).usage
      must(later.cpuNs >= usage.cpuNs, `CPU time went from ${usage.cpuNs} to ${later.cpuNs} ns`)
    },
  ],
  ['no method minds to be called twice', twice],
  [
    'a sandbox that was created, and never started, is no secret and can be removed',
    async (trial) => {
      const { client } = trial
      const id = await trial.created()
      await mustBe('Status', client.status(id), ['OK'])
      await mustBe('Stop', client.stop(id), ['OK'])
      await mustBe('Shutdown', client.shutdown(id), ['OK'])
      await trial.mustBeGone(id)
    },
  ],
  [
    'a sandbox that runs is ended by Shutdown alone',
    async (trial) => {
      const { id, pid } = await trial.running()
      const process_ = trial.process(pid)
      await mustBe('Shutdown', trial.client.shutdown(id), ['OK'])
      await trial.mustBeGone(id, process_)
    },
  ],
  [
    'a sandbox that has ended is not started again',
    async (trial) => {
      const id = await trial.stopped()
      const code = await codeOf(trial.client.start(id))
      must(!FAULTS.has(code), `Start answers ${code}`)
      must((await trial.client.status(id)).state === NOT_READY, `Status is not ${NOT_READY} afterwards`)
    },
  ],
  [
    'ids that nobody knows: Stop and Shutdown succeed',
    async (trial) => {
      // iSulad takes every error for a failure, also this one; containerd takes both.
      await mustBe('Stop', trial.client.stop(trial.id()), ['OK'])
      await mustBe('Shutdown', trial.client.shutdown(trial.id()), ['OK'])
    },
  ],
  [
    'ids that nobody knows: Platform succeeds',
    // By this iSulad finds out that a sandboxer is back, with the id of any sandbox.
    async (trial) => void (await mustBe('Platform', trial.client.platform(trial.id()), ['OK'])),
  ],
  [
    'ids that nobody knows: Start, Status and Wait answer NOT_FOUND',
    async (trial) => {
      await mustBe('Start', trial.client.start(trial.id()), ['NotFound'])
      await mustBe('Status', trial.client.status(trial.id()), ['NotFound'])
      await mustBe('Wait', inTime('Wait', trial.wait(trial.id())), ['NotFound'])
    },
  ],
]

async function twice(trial) {
  const { client } = trial
  const request = await trial.request()
  await client.create(request)
  await mustBe('the second Create', client.create(request), ['AlreadyExists'])
  const first = await client.start(request.id)
  await mustBe('the second Create, of one that runs', client.create(request), ['AlreadyExists'])
  const { id } = request
  // Success or a refusal, as it likes; but no second process.
  const again = await codeOf(client.start(id))
  must(again === 'OK' || !FAULTS.has(again), `the second Start answers ${again}`)
  const { state, pid } = await client.status(id)
  must(state === READY && pid === first.pid, `after the second Start it is ${state}, with process ${pid}`)
  for (const call of ['platform', 'status', 'stop']) {
    await mustBe(`${call}`, client[call](id), ['OK'])
    await mustBe(`the second ${call}`, client[call](id), ['OK'])
  }
  const [one, other] = [await inTime('Wait', trial.wait(id)), await inTime('the second Wait', trial.wait(id))]
  must(one.exitStatus === other.exitStatus && one.exitedAtNs === other.exitedAtNs, 'Wait answers differently')
  await mustBe('Shutdown', client.shutdown(id), ['OK'])
  await mustBe('the second Shutdown', client.shutdown(id), ['OK'])
  await mustBe('Stop after Shutdown', client.stop(id), ['OK'])
}
