import { once } from 'node:events'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Packets, SocketOutput } from '../../../src/executor/attach/packets.ts'
import type { OutputName } from '../../../src/executor/attach/records.ts'

function framed(kind: number, bytes: Uint8Array): Buffer {
  const header = Buffer.alloc(5)
  header[0] = kind
  header.writeUInt32BE(bytes.length, 1)
  return Buffer.concat([header, bytes])
}

const packet = fc.tuple(fc.constantFrom(2, 3, 9), fc.uint8Array({ maxLength: 50 }))

describe('packets of an attach socket', () => {
  it('are taken apart wherever they are cut; those of no stream are dropped', () => {
    fc.assert(
      fc.property(fc.array(packet), fc.array(fc.nat()), (packets, cuts) => {
        const bytes = Buffer.concat(packets.map(([kind, content]) => framed(kind, content)))
        const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length]
        const taken: Record<OutputName, Buffer[]> = { stdout: [], stderr: [] }
        const reader = new Packets((stream, part) => taken[stream].push(part))
        for (const [index, place] of places.entries()) reader.take(bytes.subarray(place, places[index + 1] ?? place))
        for (const [kind, stream] of [[2, 'stdout'] as const, [3, 'stderr'] as const]) {
          const sent = packets.filter(([of]) => of === kind).map(([, content]) => content)
          expect(Buffer.concat(taken[stream])).toEqual(Buffer.concat(sent))
        }
      }),
    )
  })

  it('are not kept without end for a client that does not read', async () => {
    const output = new SocketOutput('stdout of a')
    const failed = once(output, 'error')
    for (let count = 0; count < 100; count++) output.add(Buffer.alloc(64 * 1024))
    expect(await failed).toMatchObject([{ code: 'ResourceExhausted', message: 'stdout of a: its client is too slow' }])
    expect(output.readableLength).toBeLessThan(5_000_000)
  })
})
