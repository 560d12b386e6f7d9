// Every method in any order: random calls for some sandboxes, and after each what Status has to say.
import { FAULTS } from './calls.mjs'
import { codeOf, inTime, must } from './trial.mjs'

const CALLS = 120
const SANDBOXES = 4
/** For a Wait that has no reason to answer. */
const OPEN_MS = 100
const METHODS = ['create', 'start', 'stop', 'wait', 'status', 'shutdown', 'platform', 'metrics', 'update']

/** What a method may answer, by the state that the sandbox is in; what is not named may be refused as well, with a code. */
const MAY = {
  none: {
    create: ['OK'],
    start: ['NotFound'],
    stop: ['OK'],
    wait: ['NotFound'],
    status: ['NotFound'],
    shutdown: ['OK'],
    platform: ['OK'],
  },
  created: {
    create: ['AlreadyExists'],
    start: ['OK'],
    stop: ['OK'],
    status: ['OK'],
    shutdown: ['OK'],
    platform: ['OK'],
  },
  running: {
    create: ['AlreadyExists'],
    stop: ['OK'],
    wait: ['DeadlineExceeded'],
    status: ['OK'],
    shutdown: ['OK'],
    platform: ['OK'],
    update: ['OK'],
  },
  stopped: {
    create: ['AlreadyExists'],
    stop: ['OK'],
    wait: ['OK'],
    status: ['OK'],
    shutdown: ['OK'],
    platform: ['OK'],
  },
}
/** What becomes of a sandbox when the call succeeds. */
const NEXT = {
  none: { create: 'created' },
  created: { start: 'running', stop: 'stopped', shutdown: 'gone' },
  running: { stop: 'stopped', shutdown: 'gone' },
  stopped: { shutdown: 'gone' },
}

export const orderChecks = [
  [
    'every method, in any order',
    async (trial) => {
      const random = randomNumbers(trial.options.seed)
      const pick = (list) => list[Math.floor(random() * list.length)]
      const slots = await Promise.all(Array.from({ length: SANDBOXES }, async () => newSlot(trial)))
      const log = []
      try {
        for (let i = 0; i < CALLS; i += 1) {
          const at = Math.floor(random() * SANDBOXES)
          const method = pick(METHODS)
          log.push(`${method} ${at}`)
          slots[at] = await step(trial, slots[at], method)
        }
      } catch (error) {
        throw new Error(`${error.message} (--seed ${trial.options.seed}, after ${log.slice(-6).join(', ')})`, {
          cause: error,
        })
      }
      return `${CALLS} calls, --seed ${trial.options.seed}`
    },
  ],
]

async function newSlot(trial) {
  return { request: await trial.request(), state: 'none' }
}

/** Makes a call, and returns what the sandbox has to be then. */
async function step(trial, slot, method) {
  const { request, state } = slot
  const code = await codeOf(inTime(`${method} of one that is ${state}`, call(trial, request, method, state)))
  const allowed = MAY[state][method]
  if (allowed)
    must(allowed.includes(code), `${method} of one that is ${state} answers ${code}, not ${allowed.join(' or ')}`)
  else
    must(code === 'OK' || method === 'wait' || !FAULTS.has(code), `${method} of one that is ${state} answers ${code}`)
  let next = code === 'OK' ? (NEXT[state][method] ?? state) : state
  // What Stop makes of one that was never started is its sandboxer's business.
  if (state === 'created' && method === 'stop') next = await heldAs(trial, request.id)
  await mustBeSeen(trial, request.id, next)
  // An id is not used twice.
  return next === 'gone' ? newSlot(trial) : { request, state: next }
}

async function call({ client, options }, request, method, state) {
  const { id, runtime } = request
  if (method === 'create') return client.create(request)
  if (method === 'update') return client.update(id, { runtime, fields: ['labels'] })
  if (method !== 'wait') return client[method](id)
  // One that has ended, or is unknown, has to be answered for.
  return client.wait(id, { timeoutMs: state === 'created' || state === 'running' ? OPEN_MS : options.timeout * 1000 })
}

async function heldAs({ client }, id) {
  const start = await codeOf(client.start(id))
  must(!FAULTS.has(start) || start === 'OK', `start after a stop before it answers ${start}`)
  return start === 'OK' ? 'running' : 'stopped'
}

async function mustBeSeen({ client }, id, state) {
  const seen = await client.status(id).catch((error) => error)
  const word = seen instanceof Error ? seen.code : seen.state
  const wanted = { none: 'NotFound', gone: 'NotFound', running: 'SANDBOX_READY', stopped: 'SANDBOX_NOTREADY' }[state]
  if (wanted === undefined)
    must(word !== 'SANDBOX_READY' && !FAULTS.has(word), `Status of one that is ${state} is ${word}`)
  else must(word === wanted, `Status of one that is ${state} is ${word}`)
}

/** Park and Miller's: the same for the same seed. */
function randomNumbers(seed) {
  let last = (seed % 2_147_483_646) + 1
  return () => {
    last = (last * 48_271) % 2_147_483_647
    return last / 2_147_483_647
  }
}
