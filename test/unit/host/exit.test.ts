import { createRequire } from 'node:module'
import { describe, expect, it } from 'vitest'
import { run } from '../../../src/host/programs/run.ts'

const LIMIT_MS = 20_000
const KOFFI = JSON.stringify(createRequire(import.meta.url).resolve('koffi'))
const EXIT = JSON.stringify(new URL('../../../dist/host/exit.js', import.meta.url).href)

const THREAD = `
  import koffi from ${KOFFI}
  import { parentPort } from 'node:worker_threads'
  const sleep = koffi.load(null).func('unsigned int sleep(unsigned int)')
  parentPort.postMessage('')
  sleep(60)
`
/** A process with a thread and a call of its pool that are stuck. */
const STUCK = `
  import koffi from ${KOFFI}
  import { once } from 'node:events'
  import { Worker } from 'node:worker_threads'
  koffi.load(null).func('unsigned int sleep(unsigned int)').async(60, () => undefined)
  await once(new Worker(${JSON.stringify(THREAD)}, { eval: true }), 'message')
`
const end = (call: string): string => `
  import { exitForCertain } from ${EXIT}
  process.once('exit', (code) => console.log('ends with', code))
  ${call}
`

async function evaluate(script: string): Promise<{ exitCode: number; stdout: string }> {
  const { exitCode, stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], {
    timeoutMs: LIMIT_MS,
  })
  return { exitCode, stdout }
}

describe('exitForCertain', () => {
  it('ends the process with its code, when who wants to know has been told', async () => {
    expect(await evaluate(end('exitForCertain(7)'))).toEqual({ exitCode: 7, stdout: 'ends with 7\n' })
  })

  it('ends it also when its threads are stuck', async () => {
    await expect(evaluate(STUCK + end('exitForCertain(7, 1)'))).rejects.toThrow('SIGALRM')
  })
})
