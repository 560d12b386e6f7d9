/**
 * The members of a JSON object with their values as they are written: numbers beyond 2^53, which JSON.parse would
 * change, stay what they are.
 *
 * @param json well-formed; an object.
 */
export function jsonMembers(json: string): Map<string, string> {
  const members = new Map<string, string>()
  let at = json.indexOf('{') + 1
  for (;;) {
    const start = json.indexOf('"', at)
    // No further name before the end: what is left are brackets and spaces.
    if (start < 0) return members
    const nameEnd = stringEnd(json, start)
    const name = JSON.parse(json.slice(start, nameEnd)) as string
    const valueStart = json.indexOf(':', nameEnd) + 1
    const valueEnd = endOfValue(json, valueStart)
    members.set(name, json.slice(valueStart, valueEnd).trim())
    if (json[valueEnd] !== ',') return members
    at = valueEnd + 1
  }
}

/** The opposite of {@link jsonMembers}. */
export function jsonObject(members: ReadonlyMap<string, string>): string {
  return `{${[...members].map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(',')}}`
}

/** Where the value ends that starts here: at the comma or bracket after it. */
function endOfValue(json: string, start: number): number {
  const marks = /["{}[\],]/g
  marks.lastIndex = start
  let depth = 0
  for (let match = marks.exec(json); match; match = marks.exec(json)) {
    const mark = match[0]
    if (mark === '"') marks.lastIndex = stringEnd(json, match.index)
    else if (mark === '{' || mark === '[') depth++
    else if (depth === 0) return match.index
    else if (mark !== ',') depth--
  }
  return json.length
}

/** Just after the quote that closes the string. */
function stringEnd(json: string, start: number): number {
  for (let quote = json.indexOf('"', start + 1); quote >= 0; quote = json.indexOf('"', quote + 1)) {
    let backslashes = 0
    while (json[quote - 1 - backslashes] === '\\') backslashes++
    if (backslashes % 2 === 0) return quote + 1
  }
  return json.length
}
