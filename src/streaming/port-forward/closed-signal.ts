import type { Readable } from 'node:stream'
import { CodedError } from '../../core/errors.ts'

/** A signal that aborts when a stream of the client is closed: reset, or gone with its connection. */
export function closedSignal(stream: Readable): AbortSignal {
  const controller = new AbortController()
  const onClose = (): void => controller.abort(new CodedError('Canceled', 'the client has closed the stream'))
  if (stream.destroyed) onClose()
  else stream.once('close', onClose)
  return controller.signal
}
