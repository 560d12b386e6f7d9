// Runs the checks of scripts/sandboxer-conformance.sh, one after the other, and says what came of each.
import { setMaxListeners } from 'node:events'
import { parseArgs } from 'node:util'
import { callChecks } from './sandboxer-conformance/calls.mjs'
import { manyChecks } from './sandboxer-conformance/many.mjs'
import { orderChecks } from './sandboxer-conformance/order.mjs'
import { requestChecks } from './sandboxer-conformance/requests.mjs'
import { restartChecks } from './sandboxer-conformance/restart.mjs'
import { taskChecks } from './sandboxer-conformance/tasks.mjs'
import { inTime, Skipped, Trial } from './sandboxer-conformance/trial.mjs'
import { waitChecks } from './sandboxer-conformance/waits.mjs'

const CHECKS = [
  ...callChecks,
  ...requestChecks,
  ...waitChecks,
  ...manyChecks,
  ...orderChecks,
  ...taskChecks,
  ...restartChecks,
]

/** Whatever a sandboxer does, the next check is made. */
const CHECK_MS = 180_000

const interrupted = new AbortController()
// As many as there are Waits.
setMaxListeners(0, interrupted.signal)
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.once(name, () => interrupted.abort(new Error(`interrupted by ${name}`)))
}
// A connection to a Task service keeps nobody alive.
const alive = setInterval(() => undefined, 60_000)
try {
  await main()
} catch (error) {
  console.error(`sandboxer-conformance: ${error.message}`)
  process.exitCode = 2
} finally {
  clearInterval(alive)
}

async function main() {
  const options = readOptions()
  const chosen = CHECKS.filter(([name]) => options.only.test(name))
  if (options.list) {
    for (const [name] of chosen) console.log(name)
    return
  }
  if (chosen.length === 0) throw new Error('no check is called so')
  await mustAnswer(options)
  const counts = { ok: 0, FAILED: 0, skipped: 0 }
  for (const [name, check] of chosen) {
    if (interrupted.signal.aborted) break
    const { word, why } = await run(check, options)
    counts[word] += 1
    console.log(`${word.padEnd(8)} ${name}${why === '' ? '' : `: ${why}`}`)
    if (word === 'FAILED') await mustAnswer(options)
  }
  console.log(`${counts.ok} ok, ${counts.FAILED} failed, ${counts.skipped} skipped`)
  if (interrupted.signal.aborted) throw interrupted.signal.reason
  if (counts.FAILED > 0) process.exitCode = 1
  else if (counts.ok === 0) throw new Error('nothing was checked')
}

function readOptions() {
  const text = { type: 'string' }
  const flag = { type: 'boolean', default: false }
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      restart: text,
      tasks: flag,
      rootfs: { type: 'string', default: '/' },
      announce: flag,
      sandboxer: { type: 'string', default: 'sandboxerd' },
      runtime: { type: 'string', default: 'io.containerd.runc.v2' },
      'oci-runtime': text,
      'cgroup-parent': { type: 'string', default: '' },
      'host-network': flag,
      many: { type: 'string', default: '20' },
      timeout: { type: 'string', default: '30' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      only: { type: 'string', default: '' },
      list: flag,
    },
  })
  const [address = '', ...others] = positionals
  if (others.length > 0) throw new Error(`there is one address, not also ${others.join(' ')}. See --help`)
  if (address === '' && !values.list) throw new Error('which sandboxer? Name the socket that it serves. See --help')
  const numbers = ['many', 'timeout', 'seed'].map((name) => [name, number(name, values[name])])
  return { ...values, ...Object.fromEntries(numbers), only: new RegExp(values.only), address }
}

function number(name, text) {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
  throw new Error(`--${name}: ${text} is not a number greater than 0`)
}

/** One check, and the end of all that it has made. */
async function run(check, options) {
  const trial = new Trial(options, interrupted.signal)
  const found = []
  let word = 'ok'
  try {
    const note = await inTime('the check', check(trial), CHECK_MS)
    if (note) found.push(note)
  } catch (error) {
    word = error instanceof Skipped ? 'skipped' : 'FAILED'
    found.push(oneLine(error))
  }
  try {
    await trial.end()
  } catch (error) {
    word = 'FAILED'
    found.push(`afterwards: ${oneLine(error)}`)
  }
  return { word, why: found.join('; ') }
}

/** Without anybody there, nothing can be said of the other checks. */
async function mustAnswer(options) {
  const trial = new Trial(options, interrupted.signal)
  try {
    await trial.answers()
  } catch (error) {
    throw new Error(`nobody answers at ${options.address}: ${oneLine(error)}`, { cause: error })
  } finally {
    await trial.end()
  }
}

function oneLine(error) {
  return String(error?.message ?? error).replace(/\s+/g, ' ')
}
