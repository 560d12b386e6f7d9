// The CRI client of scripts/quickstart.sh. What it must know at its next call is in DIR/quickstart.json.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { credentials, loadPackageDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import Database from 'better-sqlite3'

const [command, dir] = process.argv.slice(2)
const commands = { up, same, down, 'remove-all': removeAll, rows }
const NAMES = ['quickstart-a', 'quickstart-b']
const CALL_MS = 30_000
const READY_MS = 30_000

if (!dir || !Object.hasOwn(commands, command)) {
  console.error(`usage: quickstart.mjs ${Object.keys(commands).join('|')} DIR`)
  process.exit(2)
}
const memory = join(dir, 'quickstart.json')
const runtime = connect(join(dir, 'cri.sock'))
try {
  await commands[command]()
} catch (error) {
  console.error(`quickstart: ${command}: ${error.message}`)
  process.exitCode = 1
} finally {
  runtime.close()
}

/** Runs two pods, remembers them, and shows what happened. */
async function up() {
  await daemonReady()
  const pods = []
  for (const name of NAMES) pods.push(await runPod(name))
  writeFileSync(memory, JSON.stringify(pods.map(({ stable }) => stable)))
  showTable(
    pods.map(({ stable }) => [
      stable.id.slice(0, 13),
      stable.name,
      stable.state,
      stable.ip,
      basename(stable.netnsPath).slice(0, 22),
      stable.pid,
      stable.checkpoint.slice(0, 12),
    ]),
    ['POD ID', 'NAME', 'STATE', 'IP', 'NETNS', 'PID', 'CHECKPOINT'],
  )
  console.log()
  showSteps(pods)
}

/** Compares the pods that run now with those remembered. */
async function same() {
  await daemonReady()
  const before = JSON.parse(readFileSync(memory, 'utf8'))
  for (const pod of before) {
    const { stable } = await inspect(pod.id)
    for (const [key, value] of Object.entries(pod)) {
      if (!isDeepStrictEqual(stable[key], value)) {
        throw new Error(`pod ${pod.name}: ${key} was ${value} and is ${stable[key]} after the restart`)
      }
    }
  }
  showTable(
    before.map(({ id, name, state, ip, pid }) => [id.slice(0, 13), name, state, ip, pid]),
    ['POD ID', 'NAME', 'STATE', 'IP', 'PID'],
  )
}

/** Stops and removes the remembered pods; the daemon then has none. */
async function down() {
  for (const { id } of JSON.parse(readFileSync(memory, 'utf8'))) {
    await runtime.call('StopPodSandbox', { pod_sandbox_id: id })
    const { status } = await runtime.call('PodSandboxStatus', { pod_sandbox_id: id })
    if (status.state !== 'SANDBOX_NOTREADY') throw new Error(`pod ${id}: ${status.state} after StopPodSandbox`)
    await runtime.call('RemovePodSandbox', { pod_sandbox_id: id })
  }
  const { items } = await runtime.call('ListPodSandbox', {})
  if (items.length > 0) throw new Error(`pods are left: ${items.map(({ id }) => id).join(', ')}`)
}

/** After a failure: removes whatever pods the daemon has, and goes on when one of them cannot be removed. */
async function removeAll() {
  await daemonReady()
  const { items } = await runtime.call('ListPodSandbox', {})
  const results = await Promise.allSettled(
    items.map(async ({ id }) => {
      await runtime.call('StopPodSandbox', { pod_sandbox_id: id })
      await runtime.call('RemovePodSandbox', { pod_sandbox_id: id })
    }),
  )
  const failed = results.filter(({ status }) => status === 'rejected')
  if (failed.length > 0) throw new Error(failed.map(({ reason }) => reason.message).join('; '))
}

/** Counts what the databases still hold of sandboxes. The daemon has ended, so they are whole. */
function rows() {
  const root = join(dir, 'root')
  const files = readdirSync(root).filter((file) => file.endsWith('.db'))
  if (files.length !== 1) throw new Error(`${root} should hold one database: ${files.join(', ') || 'none'}`)
  const db = new Database(join(root, files[0]))
  const tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").pluck().all()
  for (const needed of ['sandboxes', 'ledger']) {
    if (!tables.includes(needed)) throw new Error(`${files[0]} has no table ${needed}`)
  }
  // `node` is about this machine, not about sandboxes.
  const left = tables
    .filter((table) => table !== 'node' && !table.startsWith('sqlite_'))
    .map((table) => [table, db.prepare(`SELECT count(*) FROM "${table}"`).pluck().get()])
    .filter(([, count]) => count > 0)
  db.close()
  if (left.length > 0) throw new Error(left.map(([table, count]) => `${count} rows in ${table}`).join(', '))
}

async function runPod(name) {
  const began = performance.now()
  const { pod_sandbox_id: id } = await runtime.call('RunPodSandbox', {
    config: {
      metadata: { name, uid: `${name}-uid`, namespace: 'default', attempt: 0 },
      hostname: name,
      log_directory: join(dir, 'logs', name),
      labels: { app: 'quickstart' },
      linux: {},
    },
  })
  const totalMs = performance.now() - began
  return { ...(await inspect(id)), totalMs }
}

/** What must not change while the pod runs (`stable`), and how long the steps took that made it. */
async function inspect(id) {
  const { status, info } = await runtime.call('PodSandboxStatus', { pod_sandbox_id: id, verbose: true })
  const details = JSON.parse(info.info ?? 'null')
  const stable = {
    id,
    name: status.metadata.name,
    state: status.state.replace('SANDBOX_', ''),
    ip: status.network?.ip ?? '',
    netnsPath: details?.netnsPath ?? '',
    pid: details?.pid ?? 0,
    checkpoint: details?.checkpoint?.hash ?? '',
  }
  if (stable.state !== 'READY') throw new Error(`pod ${stable.name}: ${stable.state}`)
  for (const [key, value] of Object.entries(stable)) {
    if (!value) throw new Error(`pod ${stable.name}: its verbose status has no ${key}`)
  }
  if (!details.steps?.length) throw new Error(`pod ${stable.name}: its verbose status has no steps`)
  return { stable, steps: details.steps }
}

function showSteps(pods) {
  const names = [...new Set(pods.flatMap(({ steps }) => steps.map(({ name }) => name)))]
  const ofPod = ({ steps }, name) => steps.find((step) => step.name === name)
  const ms = (value) => (value === undefined ? '-' : value.toFixed(1))
  const lines = names.map((name) => [
    name,
    ...pods.flatMap((pod) => [ms(ofPod(pod, name)?.startMs), ms(ofPod(pod, name)?.durationMs)]),
  ])
  lines.push(['RunPodSandbox, as the client saw it', ...pods.flatMap(({ totalMs }) => ['', ms(totalMs)])])
  showTable(lines, ['STEP', ...pods.flatMap(({ stable }) => [`${stable.name} AT`, 'MS'])])
}

function showTable(lines, head) {
  const text = [head, ...lines].map((line) => line.map(String))
  const widths = head.map((_, column) => Math.max(...text.map((line) => line[column].length)))
  for (const line of text)
    console.log(`  ${line.map((cell, column) => cell.padEnd(widths[column])).join('  ')}`.trimEnd())
}

/** Waits until the daemon answers and says that it can run pods. */
async function daemonReady() {
  const end = Date.now() + READY_MS
  for (let why = 'no answer'; ; await sleep(100)) {
    try {
      const { status } = await runtime.call('Status', {})
      const unready = status.conditions.filter((condition) => !condition.status)
      if (unready.length === 0) return
      why = unready.map(({ type, reason, message }) => `${type}: ${reason} ${message}`).join('; ')
    } catch (error) {
      why = error.message
    }
    if (Date.now() > end) throw new Error(`the daemon is not ready after ${READY_MS / 1000} s: ${why}`)
  }
}

function connect(socket) {
  const protoDir = fileURLToPath(new URL('../proto', import.meta.url))
  const options = {
    keepCase: true,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
    includeDirs: [protoDir],
  }
  const packages = loadPackageDefinition(loadSync('runtime/v1/api.proto', options))
  const client = new packages.runtime.v1.RuntimeService(`unix://${socket}`, credentials.createInsecure(), {
    // The daemon is killed and started again between calls; the default waits up to two minutes before it tries again.
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 200,
  })
  const call = (method, request) =>
    new Promise((resolve, reject) => {
      client[method](request, { deadline: Date.now() + CALL_MS }, (error, response) =>
        error ? reject(new Error(`${method}: ${error.message}`)) : resolve(response),
      )
    })
  return { call, close: () => client.close() }
}
