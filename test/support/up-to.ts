import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

/** Reads up to such a text, and leaves the rest. */
export async function upTo(stream: Readable | null, end: RegExp): Promise<string> {
  let read = ''
  while (!end.test(read)) {
    const chunk = stream?.read() as Buffer | null
    read += chunk?.toString('latin1') ?? ''
    if (!chunk) await sleep(5)
    if (stream?.readableEnded) throw new Error(`${JSON.stringify(read)} has no ${String(end)}`)
  }
  return read
}
