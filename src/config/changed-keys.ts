import type { Settings } from './schema.ts'

/** Every key of the configuration with its value as JSON: `cni.bin_dirs` → `["/opt/cni/bin"]`. */
export type KeyValues = ReadonlyMap<string, string>

/** The keys that a reload applies; those of one table stand for all in it. All others need a restart. */
const RELOADED: readonly RegExp[] = [/^log\.levels?(\.|$)/, /^runtimes\./, /^timeouts\.drain$/]

/** The keys as errors name them. A table that is empty has none. */
export function keyValues(settings: Settings): KeyValues {
  const values = new Map<string, string>()
  const visit = (value: unknown, key: string): void => {
    if (!isTable(value)) values.set(key, JSON.stringify(value))
    else for (const [name, member] of Object.entries(value)) visit(member, key === '' ? name : `${key}.${name}`)
  }
  visit(settings, '')
  return values
}

/** The keys that are not in both with the same value, in the order of the alphabet. */
export function changedKeys(before: KeyValues, after: KeyValues): string[] {
  const keys = new Set([...before.keys(), ...after.keys()])
  return [...keys].filter((key) => before.get(key) !== after.get(key)).toSorted()
}

/**
 * Whether a reload applies a key that has changed. A remote sandboxer that is new is one more; to have another in the
 * place of one that runs pods, or none, takes a restart.
 */
export function isReloaded(key: string, before: KeyValues): boolean {
  // A name may have dots, a key of it has none.
  const [, sandboxer] = /^(sandboxers\..+)\.[^.]+$/.exec(key) ?? []
  if (sandboxer !== undefined) return !before.has(`${sandboxer}.address`)
  return RELOADED.some((pattern) => pattern.test(key))
}

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
