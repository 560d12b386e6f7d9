import { escapeControls } from '../core/escape-controls.ts'

/**
 * Rewrites one line of JSON log for the eye: `HH:MM:SS.mmm LEVEL module message key=value …`, the time in UTC.
 * Whatever a value holds, it stays on its line: control characters, also those that only a terminal minds, are escaped.
 * The stack of an error follows in lines of its own where the level is `error` or above. A line that is not JSON is
 * returned as it is.
 */
export function prettyLine(line: string): string {
  const record = parseRecord(line)
  if (record === undefined) return line
  const { time, level, module, msg, err, ...fields } = record
  const head = [typeof time === 'string' ? time.slice(11, 23) : '', String(level).toUpperCase().padEnd(5)]
  if (module !== undefined) head.push(text(module))
  if (msg !== undefined) head.push(text(msg))
  const { message, stack, code } = isRecord(err) ? err : { message: err }
  if (message !== undefined) fields['err'] = message
  if (code !== undefined) fields['code'] = code
  const pairs = Object.entries(fields).map(([key, value]) => `${text(key)}=${quoted(value)}`)
  const isSevere = level === 'error' || level === 'fatal'
  const frames = isSevere && typeof stack === 'string' ? stackFrames(stack) : []
  return `${[[...head, ...pairs].filter(Boolean).join(' '), ...frames].join('\n')}\n`
}

function parseRecord(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return isRecord(value) ? value : undefined
  } catch {
    // Said in the contract: it is passed on as it is.
    return undefined
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function stackFrames(stack: string): string[] {
  return stack
    .split('\n')
    .filter((frame) => frame.startsWith('    at '))
    .map((frame) => `    ${escapeControls(frame.trim())}`)
}

/** A value that is a plain word stands for itself; all others are JSON. */
function quoted(value: unknown): string {
  if (typeof value === 'string' && /^[\w./:@%+-]+$/.test(value)) return value
  return escapeControls(JSON.stringify(value))
}

function text(value: unknown): string {
  return escapeControls(typeof value === 'string' ? value : JSON.stringify(value))
}
