// What a check is given: a client, sandboxes that are removed after it, and words for what has to be.
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { connectSandboxer } from '../../dist/client/client.js'
import { loadShimApi } from '../../dist/grpc/load.js'

const run = promisify(execFile)

/** How long something may take that is to happen "soon". */
const SOON_MS = 10_000
const RESTART_MS = 120_000

/** Why a check was not made. */
export class Skipped extends Error {}

export class Trial {
  options
  client
  signal
  #ids = new Set()
  #networks = new Set()
  #closes = []
  #ends = []
  #startedAt = uptimeTicks()

  constructor(options, signal) {
    this.options = options
    this.signal = signal
    this.client = this.connect()
  }

  /** Another client, of its own connections. */
  connect(options = {}) {
    const { address, sandboxer, timeout } = this.options
    const client = connectSandboxer({ address, sandboxer, timeoutMs: timeout * 1000, ...options })
    this.afterwards(() => client.close())
    return client
  }

  /** Closes what the check has opened, when its sandboxes are gone; the last first. */
  afterwards(close) {
    this.#closes.unshift(close)
  }

  /** Ends what is in sandboxes, before they are removed. */
  beforehand(end) {
    this.#ends.push(end)
  }

  /** Restarts the sandboxer, and returns when it answers. */
  async restart() {
    const { restart: command } = this.options
    if (command === undefined) throw new Skipped('no --restart')
    await run('/bin/sh', ['-c', command], { timeout: RESTART_MS, signal: this.signal })
    await this.answers()
  }

  /** Returns when somebody is there: a connection that is down is tried again after a while. */
  async answers() {
    const noAnswer = ['Unavailable', 'DeadlineExceeded']
    await soon('it answers', async () => !noAnswer.includes(await codeOf(this.client.platform(randomId()))))
  }

  /** An id that is nobody's yet; what becomes of it is removed after the check. */
  id() {
    const id = randomId()
    this.#ids.add(id)
    return id
  }

  /** A Create, with a network namespace of its own. */
  async request(id = this.id()) {
    const { 'host-network': isHost, 'cgroup-parent': cgroupParent, runtime: name } = this.options
    const network = isHost ? 'NODE' : 'POD'
    const config = {
      metadata: { name: `check-${id.slice(0, 8)}`, namespace: 'sandboxer-conformance', uid: id, attempt: 0 },
      hostname: isHost ? '' : `check-${id.slice(0, 8)}`,
      labels: { purpose: 'sandboxer-conformance' },
      linux: { cgroup_parent: cgroupParent, security_context: { namespace_options: { network, pid: 'CONTAINER' } } },
    }
    const netnsPath = isHost ? '' : await this.#network(id)
    return { id, config, netnsPath, runtime: { name, ...runcOptions(this.options) } }
  }

  /** The id of a sandbox that was created, and not started. */
  async created() {
    const request = await this.request()
    await this.client.create(request)
    return request.id
  }

  /** A sandbox that runs, with what its Start has told. */
  async running() {
    const id = await this.created()
    return { id, ...(await this.client.start(id)) }
  }

  /** The id of a sandbox that has ended. */
  async stopped() {
    const { id } = await this.running()
    await this.client.stop(id)
    return id
  }

  /** Long polls end with the check, which may not have come to ask what became of them. */
  wait(id, call = {}) {
    return unheeded(this.client.wait(id, { signal: this.signal, ...call }))
  }

  /** The identity of a process of this node, or null: sandboxes may have none that is to be seen here. */
  process(pid) {
    const start = pid > 0 ? startTicks(pid) : null
    return start === null ? null : { pid, start }
  }

  isAlive({ pid, start }) {
    return startTicks(pid) === start
  }

  /** Kills a process that a sandboxer has named; one that is older than the check cannot be the sandbox's. */
  kill(process_) {
    must(process_.pid > 1 && process_.start >= this.#startedAt, `process ${process_.pid} is older than its sandbox`)
    process.kill(process_.pid, 'SIGKILL')
  }

  /** Nothing of a sandbox is left that one can see from outside. */
  async mustBeGone(id, process_ = null) {
    await mustBe('Status after Shutdown', this.client.status(id), ['NotFound'])
    if (process_) await soon('its process ends', () => !this.isAlive(process_))
    await soon('its mounts are gone', () => !readFileSync('/proc/self/mountinfo', 'utf8').includes(id))
  }

  /** Removes everything, and says what could not be removed. */
  async end() {
    const failures = []
    const attempt = async (work) => {
      try {
        await work()
      } catch (error) {
        failures.push(error.message)
      }
    }
    for (const end of this.#ends) await attempt(end)
    await Promise.all([...this.#ids].map((id) => attempt(() => shutdownSurely(this.client, id))))
    for (const close of this.#closes) await attempt(close)
    for (const name of this.#networks) await attempt(() => run('ip', ['netns', 'delete', name], { timeout: SOON_MS }))
    if (failures.length > 0) throw new Error(failures.join('; '))
  }

  async #network(id) {
    const name = `sbx-${id.slice(0, 12)}`
    if (!this.#networks.has(name)) {
      await run('ip', ['netns', 'add', name], { timeout: SOON_MS })
      this.#networks.add(name)
    }
    return `/var/run/netns/${name}`
  }
}

/** Shutdown of a sandbox that may be there or not, also while its sandboxer comes back from a restart. */
async function shutdownSurely(client, id) {
  const end = Date.now() + 2 * SOON_MS
  for (;;) {
    const code = await codeOf(client.shutdown(id))
    if (code === 'OK' || code === 'NotFound') return
    if (code !== 'Unavailable' || Date.now() > end) throw new Error(`Shutdown of ${id.slice(0, 12)} answers ${code}`)
    await sleep(200)
  }
}

function runcOptions({ 'oci-runtime': path }) {
  if (path === undefined) return {}
  const { Options } = loadShimApi().containerd.runc.v1
  const typeUrl = 'containerd.runc.v1.Options'
  return { options: { typeUrl, value: Options.serialize({ binary_name: path }) } }
}

function uptimeTicks() {
  // /proc counts in hundredths of a second, whatever the kernel ticks in.
  return Math.floor(Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 100) - 1
}

/** When a process was started; null for none, and for one that has ended and is not reaped. */
function startTicks(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? null : Number(fields[19])
  } catch {
    return null
  }
}

/** A promise whose failure is nobody's who does not wait for it. */
export function unheeded(promise) {
  promise.catch(() => undefined)
  return promise
}

/** As containerd's CRI makes them. */
export function randomId() {
  return randomBytes(32).toString('hex')
}

/** Fails the check. */
export function must(condition, why) {
  if (!condition) throw new Error(why)
}

/** `OK`, or the code of what a call fails with. */
export async function codeOf(call) {
  try {
    await call
    return 'OK'
  } catch (error) {
    if (typeof error?.code !== 'string') throw error
    return error.code
  }
}

/** A call has to end so. */
export async function mustBe(what, call, codes) {
  const code = await codeOf(call)
  must(codes.includes(code), `${what} answers ${code}, not ${codes.join(' or ')}`)
  return code
}

/** Waits until something is so. */
export async function soon(what, isSo) {
  const end = Date.now() + SOON_MS
  while (!(await isSo())) {
    must(Date.now() < end, `not within ${SOON_MS / 1000} s: ${what}`)
    await sleep(50)
  }
}

/** The result of something that has to come soon. */
export async function inTime(what, promise, ms = SOON_MS) {
  const timer = new AbortController()
  try {
    const late = async () => {
      await sleep(ms, undefined, { signal: timer.signal })
      throw new Error(`${what}: nothing after ${ms / 1000} s`)
    }
    return await Promise.race([promise, late()])
  } finally {
    timer.abort()
  }
}

/** Whether a promise is still open after a time. */
export async function isOpen(promise, ms = 500) {
  const open = Symbol('open')
  return (await Promise.race([promise, sleep(ms, open)])) === open
}
