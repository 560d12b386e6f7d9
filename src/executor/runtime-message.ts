const MAX_LENGTH = 2000

/**
 * What a runtime has to say, on one line. runc writes `time="…" level=error msg="…"` (logrus), and what it says is in the
 * last field.
 */
export function runtimeMessage(stderr: string): string {
  const lines = stderr
    .split('\n')
    .map((line) => plain(line.trim()))
    .filter((line) => line !== '')
  const text = lines.join('; ')
  return text.length > MAX_LENGTH ? `…${text.slice(-MAX_LENGTH)}` : text
}

function plain(line: string): string {
  const message = /^time=.* level=\w+ msg=("(?:[^"\\]|\\.)*")/.exec(line)?.[1]
  if (message === undefined) return line
  try {
    return JSON.parse(message) as string
  } catch {
    // Go's strings have escapes that JSON lacks.
    return line
  }
}
