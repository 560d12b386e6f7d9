// The CRI client of scripts/quickstart.sh. What it must know at its next call is in DIR/quickstart.json.
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { credentials, loadPackageDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import Database from 'better-sqlite3'
import WebSocket from 'ws'

const [command, ...rest] = process.argv.slice(2)
// The directory comes last.
const dir = rest.pop()
const commands = { up, run, look, talk, same, ended, down, 'remove-all': removeAll, rows }
const NAMES = ['quickstart-a', 'quickstart-b']
const CALL_MS = 30_000
const COUNTER_EXIT = 7
const WEB_PORT = 8080
// `wait` is what a signal interrupts.
const COUNTER = `echo "hello from $(hostname)" >/tmp/index.html; busybox httpd -p ${WEB_PORT} -h /tmp
trap 'exit ${COUNTER_EXIT}' TERM; i=0; while :; do i=$((i+1)); echo "line $i"; sleep 0.1 & wait; done`
const READY_MS = 30_000
// The channels of v5.channel.k8s.io.
const [STDIN, STDOUT, ERROR, CLOSE] = [0, 1, 3, 255]

if (!dir || !Object.hasOwn(commands, command)) {
  console.error(`usage: quickstart.mjs ${Object.keys(commands).join('|')} [IMAGE] DIR`)
  process.exit(2)
}
const memory = join(dir, 'quickstart.json')
const { runtime, images } = connect(join(dir, 'cri.sock'))
try {
  await commands[command](...rest)
} catch (error) {
  console.error(`quickstart: ${command}: ${error.message}`)
  process.exitCode = 1
} finally {
  runtime.close()
  images.close()
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

/** Pulls an image, and runs a container with it in the first pod, which counts in its log until it is told to end. */
async function run(image) {
  const [pod, ...others] = JSON.parse(readFileSync(memory, 'utf8'))
  const { image_ref: ref } = await images.call('PullImage', { image: { image } })
  const { image: pulled } = await images.call('ImageStatus', { image: { image: ref } })
  if (!pulled) throw new Error(`${image} is not there after it was pulled`)
  const config = {
    metadata: { name: 'counter', attempt: 0 },
    image: { image: ref },
    command: ['/bin/sh', '-c', COUNTER],
    log_path: 'counter.log',
    linux: { security_context: { namespace_options: { pid: 'CONTAINER' } } },
  }
  const request = { pod_sandbox_id: pod.id, config, sandbox_config: podConfig(pod.name) }
  const { container_id: id } = await runtime.call('CreateContainer', request)
  await runtime.call('StartContainer', { container_id: id })
  const { status, info } = await runtime.call('ContainerStatus', { container_id: id, verbose: true })
  if (status.state !== 'CONTAINER_RUNNING') throw new Error(`container ${id}: ${status.state}: ${status.message}`)
  const container = { id, log: status.log_path, pid: JSON.parse(info.info).pid, image: pulled.id }
  writeFileSync(memory, JSON.stringify([{ ...pod, container }, ...others]))
  showTable(
    [[pulled.id.slice(7, 20), pulled.repo_tags[0], `${(pulled.size / 2 ** 20).toFixed(1)} MiB`]],
    ['IMAGE ID', 'TAG', 'SIZE'],
  )
  console.log()
  showTable(
    [[id.slice(0, 13), 'counter', 'RUNNING', pod.name, container.pid]],
    ['CONTAINER ID', 'NAME', 'STATE', 'POD', 'PID'],
  )
}

/** Shows the end of the container's log, what a command in it prints, and its statistics. */
async function look() {
  const [{ container, ip }] = JSON.parse(readFileSync(memory, 'utf8'))
  const { id, log } = container
  await sleep(500)
  for (const line of logLines(log).slice(-3)) console.log(`  log:  ${line}`)
  const cmd = ['/bin/sh', '-c', 'echo "$(hostname): $(uname -sr)"; ip -4 -o addr show eth0']
  const { exit_code: code, stdout, stderr } = await runtime.call('ExecSync', { container_id: id, cmd, timeout: 10 })
  if (code !== 0) throw new Error(`exec: exit code ${code}: ${stderr}`)
  if (!stdout.toString().includes(ip)) throw new Error(`exec: the container has not the address of its pod: ${stdout}`)
  for (const line of stdout.toString().trim().split('\n')) console.log(`  exec: ${line.trim()}`)
  const { stats } = await runtime.call('ContainerStats', { container_id: id })
  const cpuMs = Number(stats.cpu.usage_core_nano_seconds.value) / 1e6
  const memoryKib = Number(stats.memory.working_set_bytes.value) / 1024
  if (!(cpuMs > 0) || !(memoryKib > 0)) throw new Error(`stats: ${JSON.stringify(stats)}`)
  console.log(`  stats: ${cpuMs.toFixed(0)} ms of CPU time, ${memoryKib.toFixed(0)} KiB of memory`)
}

/** What `crictl exec -i`, `attach` and `port-forward` do, over WebSocket. */
async function talk() {
  const [{ container, id: podId }] = JSON.parse(readFileSync(memory, 'utf8'))
  const streams = { container_id: container.id, stdin: true, stdout: true, stderr: true }
  const cmd = ['/bin/sh', '-c', 'while read -r word; do echo "$word, said $(id -un)"; done; exit 3']
  const exec = await open('Exec', { ...streams, cmd }, 'v5.channel.k8s.io')
  exec.send(STDIN, 'hello')
  exec.send(STDIN, ' world\n')
  exec.send(CLOSE, Buffer.of(STDIN))
  await exec.closed
  const { details } = JSON.parse(exec.received(ERROR))
  const code = details?.causes?.find(({ reason }) => reason === 'ExitCode')?.message
  if (code !== '3') throw new Error(`exec: its status is ${exec.received(ERROR)}`)
  console.log(`  exec:         ${exec.received(STDOUT).trim()}; and the exit code ${code}`)

  const attach = await open('Attach', { ...streams, stdin: false }, 'v5.channel.k8s.io')
  await sleep(500)
  attach.end()
  const lines = attach.received(STDOUT).trim().split('\n')
  if (!/^line \d+$/.test(lines[0])) throw new Error(`attach: instead of the counter's output came ${lines[0]}`)
  console.log(`  attach:       ${lines.join(', ')}`)

  const forward = await open('PortForward', { pod_sandbox_id: podId, port: [WEB_PORT] }, 'v4.channel.k8s.io')
  forward.send(0, 'GET / HTTP/1.0\r\n\r\n')
  await forward.closed
  // Each channel begins with the number of its port.
  const [head, body] = forward.received(0).slice(2).split('\r\n\r\n')
  if (!body?.startsWith('hello from')) throw new Error(`port-forward: the answer is ${head}`)
  console.log(`  port-forward: ${head.split('\r\n')[0]}: ${body.trim()}`)
}

/** A session whose URL a call of the CRI gives. The first byte of each message is the number of its channel. */
async function open(method, request, protocol) {
  const { url } = await runtime.call(method, request)
  const socket = new WebSocket(url.replace(/^http/, 'ws'), protocol)
  const messages = []
  socket.on('message', (message) => messages.push(message))
  const closed = once(socket, 'close', { signal: AbortSignal.timeout(CALL_MS) })
  await once(socket, 'open')
  return {
    send: (channel, data) => socket.send(Buffer.concat([Buffer.of(channel), Buffer.from(data)])),
    received: (channel) =>
      Buffer.concat(messages.filter(([of]) => of === channel).map((message) => message.subarray(1))).toString(),
    end: () => socket.close(),
    closed,
  }
}

/** The container has ended while the daemon was away: with its exit code, its time, and a log that lacks nothing. */
async function ended() {
  const [{ container }] = JSON.parse(readFileSync(memory, 'utf8'))
  const { status } = await runtime.call('ContainerStatus', { container_id: container.id })
  if (status.state !== 'CONTAINER_EXITED' || status.exit_code !== COUNTER_EXIT) {
    throw new Error(`container ${container.id}: ${status.state} with exit code ${status.exit_code}`)
  }
  const numbers = logLines(container.log).map((line) => Number(/line (\d+)$/.exec(line)?.[1]))
  const missing = numbers.findIndex((number, index) => number !== index + 1)
  if (missing !== -1) throw new Error(`log: after line ${missing} comes ${numbers[missing]}`)
  console.log()
  showTable(
    [
      [
        container.id.slice(0, 13),
        'counter',
        'EXITED',
        status.exit_code,
        status.reason,
        new Date(Number(BigInt(status.finished_at) / 1_000_000n)).toISOString(),
        `${numbers.length} lines, all there`,
      ],
    ],
    ['CONTAINER ID', 'NAME', 'STATE', 'EXIT', 'REASON', 'AT', 'LOG'],
  )
}

/** Compares the pods that run now with those remembered. */
async function same() {
  await daemonReady()
  const before = JSON.parse(readFileSync(memory, 'utf8'))
  for (const pod of before) {
    const { stable } = await inspect(pod.id)
    for (const [key, value] of Object.entries(pod).filter(([name]) => name !== 'container')) {
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

/** Stops and removes the remembered pods, with the container and its image; the daemon then has none. */
async function down() {
  const pods = JSON.parse(readFileSync(memory, 'utf8'))
  const [{ container }] = pods
  await runtime.call('StopContainer', { container_id: container.id, timeout: 10 })
  await runtime.call('RemoveContainer', { container_id: container.id })
  await images.call('RemoveImage', { image: { image: container.image } })
  for (const { id } of pods) {
    await runtime.call('StopPodSandbox', { pod_sandbox_id: id })
    const { status } = await runtime.call('PodSandboxStatus', { pod_sandbox_id: id })
    if (status.state !== 'SANDBOX_NOTREADY') throw new Error(`pod ${id}: ${status.state} after StopPodSandbox`)
    await runtime.call('RemovePodSandbox', { pod_sandbox_id: id })
  }
  const { items } = await runtime.call('ListPodSandbox', {})
  const { containers } = await runtime.call('ListContainers', {})
  const { images: left } = await images.call('ListImages', {})
  const all = [...items, ...containers, ...left].map(({ id }) => id)
  if (all.length > 0) throw new Error(`pods, containers or images are left: ${all.join(', ')}`)
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
  const { pod_sandbox_id: id } = await runtime.call('RunPodSandbox', { config: podConfig(name) })
  const totalMs = performance.now() - began
  return { ...(await inspect(id)), totalMs }
}

function podConfig(name) {
  return {
    metadata: { name, uid: `${name}-uid`, namespace: 'default', attempt: 0 },
    hostname: name,
    log_directory: join(dir, 'logs', name),
    labels: { app: 'quickstart' },
    linux: {},
  }
}

/** The lines of a container's log: `TIME STREAM TAG TEXT`. */
function logLines(path) {
  return readFileSync(path, 'utf8').trimEnd().split('\n')
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
  const { v1 } = loadPackageDefinition(loadSync('runtime/v1/api.proto', options)).runtime
  const service = (Client) => {
    const client = new Client(`unix://${socket}`, credentials.createInsecure(), {
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
  return { runtime: service(v1.RuntimeService), images: service(v1.ImageService) }
}
