import { readdirSync, readFileSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { basename, join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { expect, it } from 'vitest'
import { runOk } from '../../src/host/programs/run.ts'
import { MAIN, ownDaemons, type TestDaemon } from '../support/daemon.ts'
import { TestPod } from '../support/test-pod.ts'

const start = ownDaemons()

const CANARY = 'canary5f1d'
/** For the registry: nobody but that may ever see them. */
const PASSWORD = `${CANARY}-password`
const IDENTITY = `${CANARY}-identity-token`
const TOKEN = `${CANARY}-registry-token`
const QUERY = `${CANARY}-query`
const USERINFO = `${CANARY}-userinfo`
/** For a container, which the daemon has to keep. */
const ENV = `${CANARY}-env`
const base64 = (text: string): string => Buffer.from(text).toString('base64')
const AUTH = base64(`user:${PASSWORD}`)

/** The secrets that are in a text, in any form in which they travel. */
function secretsIn(text: string): string[] {
  const found = [PASSWORD, IDENTITY, TOKEN, QUERY, USERINFO, ENV].filter(
    (secret) => text.includes(secret) || text.includes(base64(secret)) || text.includes(encodeURIComponent(secret)),
  )
  return text.includes(AUTH) || text.includes(AUTH.slice(0, 20)) ? [...found, 'AUTH'] : found
}

async function messageOf(call: Promise<unknown>): Promise<string> {
  const [outcome] = await Promise.allSettled([call])
  return outcome.status === 'rejected' ? String((outcome.reason as Error).message) : ''
}

/** Pulls that work and pulls that fail, with every kind of credentials and every reference that may carry some. */
async function pulls({ client, images }: TestDaemon): Promise<string[]> {
  const { ref } = await images.push({ name: 'busybox' })
  const [address = ''] = ref.split('/')
  const auths = [
    { username: 'user', password: PASSWORD },
    { auth: AUTH },
    { identity_token: IDENTITY },
    { registry_token: TOKEN },
    { auth: PASSWORD },
    { username: `user:${PASSWORD}`, password: PASSWORD },
    { username: 'user', password: PASSWORD, server_address: `https://user:${PASSWORD}@${address}/v2/?token=${QUERY}` },
  ]
  const references = [
    `${address}/no-such:1`,
    `user:${USERINFO}@${address}/busybox:1`,
    `https://user:${USERINFO}@${address}/busybox:1`,
    `${address}/busybox:1?token=${QUERY}`,
    `https://${address}/busybox?token=${QUERY}`,
    `127.0.0.1:1/${'x'.repeat(70)}/user:${USERINFO}@host/x`,
  ]
  const errors: string[] = []
  for (const auth of auths) {
    for (const reference of [ref, ...references]) errors.push(await messageOf(client.images.pull(reference, auth)))
  }
  for (const reference of references) errors.push(await messageOf(client.images.status(reference)))
  return errors
}

/** Containers that run, and some that cannot, with a secret in their environment. */
async function containers(daemon: TestDaemon): Promise<string[]> {
  const pod = await TestPod.run(daemon, 'crun')
  const broken = await TestPod.run(daemon, 'runc')
  const env = { SECRET: ENV }
  const id = await pod.start({ env })
  await pod.create({ env })
  await pod.run('exit 1', { env })
  return [
    await messageOf(daemon.client.containers.exec(id, ['/no/such'])),
    await messageOf(pod.start({ env, command: ['/no/such'] })),
    await messageOf(broken.start({ env, command: ['/no/such'] })),
    await messageOf(pod.start({ env, working_dir: '/proc/self/no/such' })),
    await messageOf(pod.create({ env, image: { image: `user:${USERINFO}@registry/x?token=${QUERY}` } })),
    await messageOf(pod.create({ env, image: { image: `https://registry/x?token=${QUERY}` } })),
  ]
}

function files(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
}

/** Files of the daemon with secrets in them: what they hold, and whether anybody but root may read them. */
function onDisk({ dir }: TestDaemon): string[] {
  const own = ['root', 'state'].flatMap((name) => files(join(dir, name)))
  // What lies in images and in their containers is not the daemon's.
  const ours = own.filter((path) => !/\/(images|merged|rootfs|upper)\//.test(path) && statSync(path).size < 64 << 20)
  const found = ours.map((path) => ({ path, secrets: secretsIn(readFileSync(path, 'latin1')) }))
  const withSecrets = found.filter(({ secrets }) => secrets.length > 0)
  const lines = withSecrets.map(({ path, secrets }) => {
    const isOpen = (statSync(path).mode & 0o077) !== 0
    return `${basename(path)}: ${secrets.join(', ')}${isOpen ? ', for all to read' : ''}`
  })
  return [...new Set(lines)].toSorted()
}

async function metrics({ dir }: TestDaemon): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath: join(dir, 'state', 'admin.sock'), path: '/metrics' }, (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      answer.once('end', () => resolve(text))
    })
    call.once('error', reject)
    call.end()
  })
}

async function supportBundle({ dir }: TestDaemon): Promise<string> {
  const file = join(dir, 'bundle.tar.gz')
  const args = ['support-bundle', '--config', join(dir, 'config.toml'), '--output', file]
  await runOk(process.execPath, [MAIN.replace(/main\.js$/, 'sandboxerctl.js'), ...args], { timeoutMs: 60_000 })
  return gunzipSync(readFileSync(file)).toString('latin1')
}

it('no secret gets into logs, errors, metrics and support bundles, nor on a disk where it has no business', async () => {
  const daemon = await start({ config: { log: { level: 'trace' } } })
  const errors = [...(await pulls(daemon)), ...(await containers(daemon))]
  expect(errors.filter((message) => message !== '').length).toBeGreaterThan(40)
  expect(errors.filter((message) => secretsIn(message).length > 0)).toEqual([])
  await daemon.restart()
  expect(secretsIn(await metrics(daemon))).toEqual([])
  expect(secretsIn(await supportBundle(daemon))).toEqual([])
  // What a container is made of must be there after a restart, and is for root only.
  const kept = ['checkpoint.json', 'config.json', 'sandboxerd.db', 'sandboxerd.db-wal']
  for (const line of onDisk(daemon)) expect(kept.map((name) => `${name}: ${ENV}`)).toContain(line)
  await daemon.removeListed()
  expect(
    daemon
      .logs()
      .split('\n')
      .filter((line) => secretsIn(line).length > 0),
  ).toEqual([])
})
