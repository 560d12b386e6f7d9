/**
 * JSON text that is the same for equal values: keys sorted, no white space, a bigint as a decimal string.
 * Only for values made of objects, arrays, strings, finite numbers, booleans, null and bigint; undefined members are
 * left out.
 */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) => {
    if (typeof member === 'bigint') return member.toString()
    if (member === null || typeof member !== 'object' || Array.isArray(member)) return member
    return Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
  })
}
