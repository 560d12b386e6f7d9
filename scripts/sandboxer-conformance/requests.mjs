// What requests look like: as different front ends send them, and as nobody should.
import { loadCri, loadSandboxApi } from '../../dist/grpc/load.js'
import { GrpcSandboxerClient } from '../../dist/client/sandboxer-client.js'
import { codeOf, must, mustBe } from './trial.mjs'

export const requestChecks = [
  [
    'a sandbox as iSulad asks for it: no record, no type of its configuration',
    async (trial) => {
      const { id, ...request } = await trial.request()
      const value = loadCri().runtime.v1.PodSandboxConfig.serialize(request.config)
      const raw = rawClient(trial)
      await raw.create({ sandbox_id: id, options: { type_url: '', value }, netns_path: request.netnsPath }, raw.call)
      const { pid } = await trial.client.start(id)
      const process_ = trial.process(pid)
      must((await trial.client.status(id)).ready, 'it does not run')
      await trial.client.shutdown(id)
      await trial.mustBeGone(id, process_)
    },
  ],
  [
    'a configuration whose type has the usual prefix',
    async (trial) => {
      const { id, ...request } = await trial.request()
      const value = loadCri().runtime.v1.PodSandboxConfig.serialize(request.config)
      const raw = rawClient(trial)
      const options = { type_url: 'type.googleapis.com/runtime.v1.PodSandboxConfig', value }
      await mustBe('Create', raw.create({ sandbox_id: id, options, netns_path: request.netnsPath }, raw.call), ['OK'])
    },
  ],
  [
    'Update changes nothing that it does not know, and succeeds',
    async (trial) => {
      const { id, pid } = await trial.running()
      const { runtime } = await trial.request(id)
      const unknown = { typeUrl: 'example.com/Unknown', value: Buffer.from('{}') }
      // containerd takes UNIMPLEMENTED, iSulad does not.
      const request = { runtime, extensions: { unknown }, fields: ['extensions.unknown', 'nothing.of.the.kind'] }
      await mustBe('Update', trial.client.update(id, request), ['OK'])
      await mustBe('the second Update', trial.client.update(id, request), ['OK'])
      const status = await trial.client.status(id)
      must(status.ready && status.pid === pid, `afterwards it is ${status.state}, with process ${status.pid}`)
    },
  ],
  [
    'Update without the name of the sandboxer, as containerd sends it',
    async (trial) => {
      const { id } = await trial.running()
      const raw = rawClient(trial, '')
      const update = raw.update({ sandbox_id: id, runtime: { name: trial.options.runtime } }, ['extensions'], raw.call)
      await mustBe('Update', update, ['OK'])
    },
  ],
  [
    'a Create without an id, or whose configuration is garbage, is refused',
    async (trial) => {
      const id = trial.id()
      const options = { type_url: 'runtime.v1.PodSandboxConfig', value: Buffer.from([0xff, 0xff, 0xff]) }
      const raw = rawClient(trial)
      const nameless = await codeOf(
        raw.create({ sandbox_id: '', options: { ...options, value: Buffer.alloc(0) } }, raw.call),
      )
      // Whoever has made it shall have it removed.
      if (nameless === 'OK') await raw.shutdown('', raw.call)
      must(!['OK', 'Unavailable', 'DeadlineExceeded'].includes(nameless), `Create without an id answers ${nameless}`)
      const garbage = await codeOf(raw.create({ sandbox_id: id, options }, raw.call))
      must(!['OK', 'Unavailable', 'DeadlineExceeded'].includes(garbage), `Create of garbage answers ${garbage}`)
      await trial.mustBeGone(id)
    },
  ],
  [
    'a network namespace that is not there fails, and leaves nothing',
    async (trial) => {
      const request = { ...(await trial.request()), netnsPath: '/var/run/netns/sbx-not-there' }
      const created = await codeOf(trial.client.create(request))
      if (created === 'OK') {
        const started = await codeOf(trial.client.start(request.id))
        must(started !== 'OK' && started !== 'Unavailable', `Start answers ${started}`)
        // containerd does not come back after a Start that has failed.
        const state = await codeOf(trial.client.status(request.id))
        if (state === 'OK') must(!(await trial.client.status(request.id)).ready, 'Status says that it runs')
      }
      await mustBe('Shutdown', trial.client.shutdown(request.id), ['OK'])
      await trial.mustBeGone(request.id)
    },
  ],
]

/** For requests that the client of this package would not send. */
function rawClient(trial, name = trial.options.sandboxer) {
  const { Controller } = loadSandboxApi().containerd.services.sandbox.v1
  const address = `unix://${trial.options.address.replace(/^unix:(\/\/)?/, '')}`
  const raw = new GrpcSandboxerClient({ name, address }, { Controller })
  trial.afterwards(() => raw[Symbol.dispose]())
  return Object.assign(raw, { call: { timeoutMs: trial.options.timeout * 1000, signal: trial.signal } })
}
