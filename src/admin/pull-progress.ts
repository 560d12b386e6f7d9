import { abortReason } from '../core/deadline.ts'
import { CodedError, invalidField } from '../core/errors.ts'
import type { AuthConfig__Output } from '../generated/runtime/v1/AuthConfig.ts'
import type { PullState } from '../image/pull-progress.ts'
import type { Images } from '../image/types.ts'
import type { PullProgress } from './api.ts'
import { refusal } from './error-codes.ts'

const AUTH_FIELDS = ['username', 'password', 'auth', 'server_address', 'identity_token', 'registry_token'] as const

type Ending = { readonly imageRef: string } | { readonly error: unknown }

/**
 * Pulls an image and yields how far it is: the newest state only, however slowly it is read. The last is `done`, or has
 * the error. When `signal` aborts, or the reader leaves, nobody waits for the pull any more.
 *
 * @param body `{ image, auth? }`, of which `auth` is an AuthConfig of the CRI. It must not be logged.
 * @throws CodedError `InvalidArgument` naming the field, before anything is yielded.
 */
export async function* pullProgress(
  body: unknown,
  { images }: { readonly images: Pick<Images, 'pull'> },
  signal: AbortSignal,
): AsyncGenerator<PullProgress> {
  const request = pullRequest(body)
  const leaving = new AbortController()
  const onAbort = (): void => leaving.abort(abortReason(signal))
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  let news: PullState | undefined
  let ending: Ending | undefined
  let wake = (): void => {}
  const tell = (state: PullState): void => {
    news = state
    wake()
  }
  const ended = images
    .pull(request, leaving.signal, tell)
    .then((imageRef) => ({ imageRef }))
    .catch((error: unknown) => ({ error }))
    .then((how: Ending) => {
      ending = how
      wake()
    })
  let bytes: Pick<PullState, 'doneBytes' | 'totalBytes'> = { doneBytes: 0, totalBytes: null }
  try {
    for (;;) {
      if (news !== undefined) {
        const state: PullState = news
        news = undefined
        bytes = state
        yield state
      } else if (ending !== undefined) break
      else {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
    yield lastLine(ending, bytes)
  } finally {
    signal.removeEventListener('abort', onAbort)
    leaving.abort(new CodedError('Canceled', 'nobody waits for it any more'))
    await ended
  }
}

function lastLine(
  ending: Ending,
  { doneBytes, totalBytes }: Pick<PullState, 'doneBytes' | 'totalBytes'>,
): PullProgress {
  if ('imageRef' in ending) return { stage: 'done', doneBytes, totalBytes, imageRef: ending.imageRef }
  return { stage: 'done', doneBytes, totalBytes, error: refusal(ending.error) }
}

function pullRequest(body: unknown): { image: string; auth: AuthConfig__Output | null } {
  const { image, auth, ...others } = isObject(body) ? body : {}
  if (typeof image !== 'string' || image === '') throw invalidField('image', 'must be the reference of an image')
  const [other] = Object.keys(others)
  if (other !== undefined) throw invalidField(other, 'is not known')
  if (auth === undefined || auth === null) return { image, auth: null }
  if (!isObject(auth)) throw invalidField('auth', 'must be an object')
  const given = Object.create(null) as Record<(typeof AUTH_FIELDS)[number], string>
  for (const field of AUTH_FIELDS) {
    const value = auth[field] ?? ''
    if (typeof value !== 'string') throw invalidField(`auth.${field}`, 'must be a text')
    given[field] = value
  }
  const [unknown] = Object.keys(auth).filter((key) => !AUTH_FIELDS.some((field) => field === key))
  if (unknown !== undefined) throw invalidField(`auth.${unknown}`, 'is not known')
  return { image, auth: given }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
