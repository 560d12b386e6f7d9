/** One line of a container's log in the CRI's form: `TIME STREAM P|F TEXT`. */
export interface LogLine {
  /** RFC 3339 with a fraction: of nanoseconds from us, without its last zeros from others. */
  readonly time: string
  readonly stream: 'stdout' | 'stderr'
  /** `P`: the line of the container goes on in the next one. */
  readonly tag: 'P' | 'F'
  readonly text: string
}

const LINE = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([PF]) (.*)$/s

/** @throws Error for a line that is none. */
export function parseLog(content: string): LogLine[] {
  if (content === '') return []
  if (!content.endsWith('\n')) throw new Error(`the log ends in the middle of a line: ${content.slice(-200)}`)
  return content
    .slice(0, -1)
    .split('\n')
    .map((line) => {
      const [, time = '', stream, tag, text = ''] = LINE.exec(line) ?? []
      if (time === '') throw new Error(`no line of a log: ${line.slice(0, 200)}`)
      return { time, stream: stream === 'stdout' ? 'stdout' : 'stderr', tag: tag === 'P' ? 'P' : 'F', text }
    })
}

/** What a container has written to one stream; a last line that did not end has no newline. */
export function text(lines: readonly LogLine[], stream: LogLine['stream']): string {
  return lines
    .filter((line) => line.stream === stream)
    .map((line) => line.text + (line.tag === 'F' ? '\n' : ''))
    .join('')
}
