// Runs a sandbox in the node's network for some seconds: node examples/run-sandbox.mjs [SOCKET [SECONDS]]
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { connectSandboxer } from 'sandboxerd/client'

const [address = '/run/sandboxerd/sandboxer.sock', seconds = '3'] = process.argv.slice(2)
const sandboxer = connectSandboxer({ address })
const id = randomBytes(32).toString('hex')
const linux = { security_context: { namespace_options: { network: 'NODE' } } }
try {
  await sandboxer.create({ id, config: { metadata: { name: 'example', namespace: 'default', uid: id }, linux } })
  console.log('started', await sandboxer.start(id))
  console.log('platform', await sandboxer.platform(id))
  await sleep(Number(seconds) * 1000)
  console.log('metrics', (await sandboxer.metrics(id)).usage)
  await sandboxer.stop(id, { graceMs: 10_000 })
  console.log('ended', await sandboxer.wait(id))
} finally {
  await sandboxer.shutdown(id)
  sandboxer.close()
}
