import { describe, expect, it } from 'vitest'
import { pullProgress } from '../../../src/admin/pull-progress.ts'
import { CodedError } from '../../../src/core/errors.ts'
import type { PullState, TellProgress } from '../../../src/image/pull-progress.ts'
import type { Images } from '../../../src/image/types.ts'

const never = new AbortController().signal
const state = (doneBytes: number): PullState => ({ stage: 'download', doneBytes, totalBytes: 9 })

/** Pulls by a script, and keeps what it was asked. */
class FakeImages implements Pick<Images, 'pull'> {
  readonly asked: unknown[] = []
  signal: AbortSignal | undefined
  readonly #script: (tell: TellProgress, signal: AbortSignal) => Promise<string>

  constructor(script: (tell: TellProgress, signal: AbortSignal) => Promise<string>) {
    this.#script = script
  }

  async pull(request: unknown, signal: AbortSignal, tell: TellProgress = () => undefined): Promise<string> {
    this.asked.push(request)
    this.signal = signal
    return this.#script(tell, signal)
  }
}

const untilAborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error))
  })

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

describe('pullProgress', () => {
  it('yields the newest state, and the image at the end', async () => {
    const images = new FakeImages(async (tell) => {
      tell(state(1))
      tell(state(2))
      return 'sha256:1'
    })
    const lines = await all(pullProgress({ image: 'busybox' }, { images }, never))
    expect(lines).toEqual([state(2), { ...state(2), stage: 'done', imageRef: 'sha256:1' }])
    expect(images.asked).toEqual([{ image: 'busybox', auth: null }])
  })

  it('yields an error as the last line', async () => {
    const images = new FakeImages(async () => Promise.reject(new CodedError('NotFound', 'pull x: manifest unknown')))
    expect(await all(pullProgress({ image: 'x' }, { images }, never))).toEqual([
      {
        stage: 'done',
        doneBytes: 0,
        totalBytes: null,
        error: { code: 'NOT_FOUND', message: 'pull x: manifest unknown' },
      },
    ])
  })

  it('hands over credentials as the CRI has them', async () => {
    const images = new FakeImages(async () => 'sha256:1')
    const body = { image: 'x', auth: { username: 'u', password: 'p' } }
    await all(pullProgress(body, { images }, never))
    expect(images.asked).toMatchObject([
      { auth: { username: 'u', password: 'p', auth: '', server_address: '', identity_token: '', registry_token: '' } },
    ])
  })

  it('ends the pull when the reader leaves, and when the signal aborts', async () => {
    const images = new FakeImages(async (tell, signal) => {
      tell(state(1))
      return untilAborted(signal)
    })
    for await (const _line of pullProgress({ image: 'x' }, { images }, never)) break
    expect(images.signal?.aborted).toBe(true)

    const leaving = new AbortController()
    const lines = pullProgress({ image: 'x' }, { images }, leaving.signal)
    await lines.next()
    const last = lines.next()
    leaving.abort(new CodedError('Canceled', 'gone'))
    expect((await last).value).toMatchObject({ error: { code: 'CANCELLED', message: 'gone' } })
  })

  it.each([
    [undefined, 'image'],
    [{ image: '' }, 'image'],
    [{ image: 'x', tag: 'y' }, 'tag'],
    [{ image: 'x', auth: 'u:p' }, 'auth'],
    [{ image: 'x', auth: { username: 1 } }, 'auth.username'],
    [{ image: 'x', auth: { pass: 'hunter2' } }, 'auth.pass'],
  ])('refuses %j', async (body, field) => {
    const images = new FakeImages(async () => 'sha256:1')
    const error: unknown = await pullProgress(body, { images }, never)
      .next()
      .catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'InvalidArgument', message: expect.stringMatching(`^${field}: `) as string })
    expect(String(error)).not.toContain('hunter2')
    expect(images.asked).toEqual([])
  })
})
