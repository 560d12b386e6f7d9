import { describe, expect, it } from 'vitest'
import { CodedError, type ErrorCode } from '../../../../src/core/errors.ts'
import { TaskWait } from '../../../../src/executor/task/task-wait.ts'
import { ScriptedTaskService } from '../../../support/scripted-task-service.ts'

const CODES: ErrorCode[] = [
  'Unavailable',
  'Internal',
  'DeadlineExceeded',
  'Canceled',
  'Aborted',
  'NotFound',
  'DataLoss',
]

function waiting(options: { isGone?: boolean; unreachableMs?: number; signal?: AbortSignal } = {}): {
  service: ScriptedTaskService
  wait: TaskWait
} {
  const service = new ScriptedTaskService()
  const { isGone = false, unreachableMs = 60_000, signal = new AbortController().signal } = options
  const wait = new TaskWait(
    { id: 'c', execId: '', timeoutMs: 1000, unreachableMs, signal },
    { service, isGone: async () => isGone },
  )
  return { service, wait }
}

/** Until the long poll has been opened so often. */
async function polled(service: ScriptedTaskService, count: number): Promise<void> {
  const polls = (): number => service.calls.filter((call) => call === 'wait').length
  await expect.poll(polls, { timeout: 10_000, interval: 5 }).toBe(count)
}

describe('the end of a task', () => {
  it('is what the long poll answers, and nothing else is asked', async () => {
    const { service, wait } = waiting()
    const ended = wait.ended()
    await polled(service, 1)
    service.end(7)
    expect(await ended).toEqual({ code: 7, atNs: 5_000_000_007n, reason: 'Exited' })
    expect(service.calls).toEqual(['wait'])
  })

  it.each(CODES)('is not an answer of %s from Wait, while State says that it runs', async (code) => {
    const { service, wait } = waiting()
    const ended = wait.ended()
    for (let count = 1; count < 4; count++) {
      await polled(service, count)
      service.fail(new CodedError(code, 'no'))
    }
    await polled(service, 4)
    service.end(3)
    expect(await ended).toMatchObject({ code: 3, reason: 'Exited' })
  })

  it('is what State says when Wait fails', async () => {
    const { service, wait } = waiting()
    const ended = wait.ended()
    await polled(service, 1)
    service.status = 'STOPPED'
    service.exitStatus = 9
    service.fail(new CodedError('Unavailable', 'lost'))
    expect(await ended).toMatchObject({ code: 9, reason: 'Exited' })
  })

  it('is looked for at once when told to', async () => {
    const { service, wait } = waiting()
    const ended = wait.ended()
    await polled(service, 1)
    service.status = 'STOPPED'
    wait.wake()
    expect(await ended).toMatchObject({ code: 0 })
  })

  it('is a service that does not know it twice, and not once', async () => {
    const { service, wait } = waiting()
    const ended = wait.ended()
    await polled(service, 1)
    service.status = new CodedError('NotFound', 'what?')
    service.fail(new CodedError('NotFound', 'what?'))
    await expect.poll(() => service.calls.filter((call) => call === 'state').length).toBe(1)
    service.status = 'RUNNING'
    // The one after the answer counts from anew.
    await polled(service, 2)
    wait.wake()
    await expect.poll(() => service.calls.filter((call) => call === 'state').length).toBe(2)
    service.status = new CodedError('NotFound', 'what?')
    const told = performance.now()
    wait.wake()
    expect(await ended).toMatchObject({ code: 255, reason: 'Unknown' })
    expect(performance.now() - told).toBeGreaterThan(300)
  })

  it('is unknown when the service is dead and the process seen gone', async () => {
    const { service, wait } = waiting({ isGone: true })
    const ended = wait.ended()
    await polled(service, 1)
    service.status = new CodedError('Unavailable', 'refused')
    service.fail(new CodedError('Unavailable', 'lost'))
    expect(await ended).toMatchObject({ code: 255, reason: 'Unknown' })
  })

  it('is given up to be looked for after a while without the service, and never at once', async () => {
    const { service, wait } = waiting({ unreachableMs: 300 })
    const ended = wait.ended()
    ended.catch(() => undefined)
    service.status = new CodedError('Unavailable', 'refused')
    const polling = setInterval(() => service.fail(new CodedError('Unavailable', 'refused')), 5)
    await expect(ended).rejects.toMatchObject({
      code: 'Unavailable',
      message: expect.stringContaining('refused') as string,
    })
    clearInterval(polling)
    expect(service.calls.filter((call) => call === 'state').length).toBeGreaterThan(1)
  })

  it('is not waited for when the signal is aborted', async () => {
    const controller = new AbortController()
    const { service, wait } = waiting({ signal: controller.signal })
    const ended = wait.ended()
    await polled(service, 1)
    controller.abort(new CodedError('Canceled', 'enough'))
    await expect(ended).rejects.toMatchObject({ code: 'Canceled', message: 'enough' })
  })

  it('has no code that a service makes up', async () => {
    const { service, wait } = waiting()
    const ended = wait.ended()
    await polled(service, 1)
    service.end(0xffff_ffff)
    expect(await ended).toMatchObject({ code: 255, reason: 'Unknown' })
  })
})
