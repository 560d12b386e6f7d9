import { randomBytes } from 'node:crypto'
import type { Sealer } from './seal.ts'

const RANDOM_BYTES = 16
const HALF = RANDOM_BYTES * 2

/**
 * A new id of a sandbox or container: 64 lower-case hex characters, of which the second half is a seal of the first. Where
 * our things lie among those of others (cgroups, addresses, network namespaces), the id in their names is all there is to
 * tell whose they are, also when nothing else is known of it any more.
 */
export function newId(sealer: Sealer): string {
  const random = randomBytes(RANDOM_BYTES).toString('hex')
  return random + sealOf(sealer, random)
}

/** Whether an id was made under this key. False for those that front ends choose, and for those of older versions. */
export function isOwnId(sealer: Sealer, id: string): boolean {
  return /^[0-9a-f]{64}$/.test(id) && id.slice(HALF) === sealOf(sealer, id.slice(0, HALF))
}

function sealOf(sealer: Sealer, random: string): string {
  return sealer.seal('id', random).slice(0, HALF)
}
