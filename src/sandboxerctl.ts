#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { Interrupted, runCtl } from './ctl/main.ts'

// The entry of sandboxerctl.

function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

const { stdout, stderr } = process
const interrupt = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    const reason = new Interrupted(name)
    if (interrupt.signal.aborted) process.exit(reason.exitCode)
    interrupt.abort(reason)
  })
}
stdout.on('error', (error: NodeJS.ErrnoException) => {
  // Whoever reads it may have had enough, as head(1).
  if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0)
  stderr.write(`sandboxerctl: write the answer: ${error.message}\n`)
  process.exit(1)
})
// Then there is nobody who could be told; what it ends with still tells.
stderr.on('error', () => undefined)

process.exitCode = await runCtl(process.argv.slice(2), {
  stdout,
  stderr,
  env: process.env,
  // A terminal that nobody has told its size says 0.
  terminal: stdout.isTTY ? () => ({ columns: stdout.columns || 80, rows: stdout.rows || 24 }) : undefined,
  signal: interrupt.signal,
  version: version(),
})
