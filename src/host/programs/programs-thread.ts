import { parentPort } from 'node:worker_threads'
import { CodedError, errnoOf } from '../../core/errors.ts'
import { answerCalls, Moved } from '../../core/thread.ts'
import type { RunningProgram } from './exec-program.ts'
import { type ExecEnding, execRun } from './exec-run.ts'
import { execStream } from './exec-stream.ts'
import { loadLibc } from '../libc.ts'
import { launchMonitor } from './monitor.ts'
import { OutputBudget } from './output-reader.ts'
import type { LaunchCall, ProgramCall, ProgramCalls, RunFailure } from './programs.ts'
import { ExecError, type RunResult } from './outcome.ts'
import { runAsOthers } from '../priority.ts'
import { spawnRun } from './spawn-run.ts'

// The entry of the programs thread.

/** Of the output of all commands together. */
const MAX_KEPT_BYTES = 256 * 1024 * 1024

// The daemon runs before the programs that it starts, and they do not inherit that.
runAsOthers()
const libc = loadLibc()
const running = new Map<number, AbortController>()
/** Those whose terminal may still become known. */
const streamed = new Map<number, RunningProgram>()
const budget = new OutputBudget(MAX_KEPT_BYTES)

async function abortable<T>(key: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  running.set(key, controller)
  try {
    return await work(controller.signal)
  } finally {
    running.delete(key)
  }
}

async function runHere({ file, args, options }: ProgramCall, signal: AbortSignal): Promise<RunResult | RunFailure> {
  try {
    return await spawnRun(libc, file, args, { ...options, signal })
  } catch (error) {
    if (!(error instanceof ExecError)) throw error
    const { code, message, exitCode, stderr } = error
    return { code, message, exitCode, stderr, errno: errnoOf(error.cause) }
  }
}

function moved(ending: ExecEnding): Moved<ExecEnding> {
  return new Moved(ending, [ending.stdout.buffer, ending.stderr.buffer])
}

if (!parentPort) throw new Error('the programs thread has no parent')
answerCalls(parentPort, (method, argument) => {
  switch (method) {
    case 'run': {
      const call = argument as ProgramCall
      return abortable(call.key, (signal) => runHere(call, signal))
    }
    case 'launch': {
      const { key, file, args, options } = argument as LaunchCall
      return abortable(key, (signal) => launchMonitor(libc, file, args, { ...options, signal }))
    }
    case 'exec': {
      const { key, program } = argument as ProgramCalls['exec'][0]
      return abortable(key, async (signal) => moved(await execRun(libc, program, budget, signal)))
    }
    case 'stream': {
      const { key, program } = argument as ProgramCalls['stream'][0]
      const onStarted = (started: RunningProgram): void => void streamed.set(key, started)
      return abortable(key, (signal) => execStream(libc, program, signal, onStarted)).finally(() =>
        streamed.delete(key),
      )
    }
    case 'hold': {
      const { key, what } = argument as ProgramCalls['hold'][0]
      streamed.get(key)?.hold(what)
      return undefined
    }
    case 'abort': {
      const { key, code, message } = argument as ProgramCalls['abort'][0]
      running.get(key)?.abort(new CodedError(code, message))
      return undefined
    }
    default:
      throw new Error(`the programs thread has no call ${method}`)
  }
})
