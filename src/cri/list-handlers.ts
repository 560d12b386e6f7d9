import type { handleServerStreamingCall, handleUnaryCall } from '@grpc/grpc-js'
import { CodedError } from '../core/errors.ts'
import { type CallContext, type HandlerDeps, serverStream, unary } from '../grpc/handler.ts'
import { MAX_MESSAGE_BYTES } from '../grpc/limits.ts'
import { inChunks, maxEncodedBytes } from './list-size.ts'

/** A list of the CRI, which is asked for in one message or as a stream of parts. */
export interface ListMethods<Request, Item, List, Part> {
  /** What is listed, for errors: `pod sandboxes`. */
  readonly what: string
  /** The method that a list too large for one message is to be asked of: `StreamPodSandboxes`. */
  readonly streamName: string
  readonly items: (request: Request, context: CallContext) => Promise<Item[]>
  readonly toList: (items: Item[]) => List
  readonly toPart: (items: Item[]) => Part
  /** Its exact size: `responseSerialize` of the unary method. */
  readonly encode: (list: List) => { readonly length: number }
}

/** The handlers of both methods. */
export interface ListHandlers<Request, List, Part> {
  readonly list: handleUnaryCall<Request, List>
  readonly stream: handleServerStreamingCall<Request, Part>
}

/**
 * Makes the handlers of a list. The unary one answers `ResourceExhausted` and names the other when the list does not fit
 * a message: one that is cut short would pass for a whole one.
 */
export function listHandlers<Request, Item, List, Part>(
  methods: ListMethods<Request, Item, List, Part>,
  deps: HandlerDeps,
): ListHandlers<Request, List, Part> {
  const { what, streamName, items, toList, toPart, encode } = methods
  return {
    list: unary(async (request, context) => {
      const list = toList(await items(request, context))
      if (maxEncodedBytes(list) > MAX_MESSAGE_BYTES) checkSize(encode(list).length, what, streamName)
      return list
    }, deps),
    stream: serverStream(async function* (request, context) {
      for (const chunk of inChunks(await items(request, context))) yield toPart(chunk)
    }, deps),
  }
}

function checkSize(bytes: number, what: string, streamName: string): void {
  if (bytes <= MAX_MESSAGE_BYTES) return
  throw new CodedError(
    'ResourceExhausted',
    `list ${what}: the list takes ${bytes} bytes, a message holds ${MAX_MESSAGE_BYTES}: use ${streamName}`,
  )
}
