import type { Timestamp, Timestamp__Output } from '../generated/google/protobuf/Timestamp.ts'

const NS_PER_S = 1_000_000_000n

export function toTimestamp(ns: bigint): Timestamp {
  return { seconds: (ns / NS_PER_S).toString(), nanos: Number(ns % NS_PER_S) }
}

/** Nanoseconds since the epoch; undefined for none, and for 0, which is how an unset time comes over the wire. */
export function fromTimestamp(timestamp: Timestamp__Output | null): bigint | undefined {
  const ns = timestamp ? BigInt(timestamp.seconds) * NS_PER_S + BigInt(timestamp.nanos) : 0n
  return ns > 0n ? ns : undefined
}
