import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const LOGGER = resolve('dist/telemetry/logger.js')
/** More than a pipe (64 KiB) or a socket holds, so that the output is full before the program ends. */
const LINES = 3000

const PROGRAM = `
  import { createLogger } from ${JSON.stringify(LOGGER)}
  const logger = createLogger({ level: 'info', format: 'json' })
  for (let i = 0; i < ${LINES}; i++) logger.info({ i, pad: 'x'.repeat(200) }, 'line')
  const ends = { exit: () => process.exit(3), throw: () => { throw new Error('boom') }, fall: () => {} }
  ends[process.argv[1]]()
`
const EXIT_CODES = { exit: 3, throw: 1, fall: 0 }
const ENDS = ['exit', 'throw', 'fall'] as const

let dir: string
let children: ChildProcess[]

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sandboxerd-log-'))
  children = []
})

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL')
  await rm(dir, { recursive: true })
})

function start(command: string, args: readonly string[], stdout: 'pipe' | number): ChildProcess {
  const child = spawn(command, args, { stdio: ['ignore', stdout, 'ignore'] })
  children.push(child)
  return child
}

const node = (end: string): string[] => ['--input-type=module', '--eval', PROGRAM, end]

function expectAllLines(output: string): void {
  const numbers = output
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { i: number }).i)
  expect(numbers).toEqual(Array.from({ length: LINES }, (_, i) => i))
}

describe('createLogger to standard output', () => {
  // What Node calls a pipe is a socket: the way of the journal.
  it.each(ENDS)('loses no line on a socket when the process ends by %s', async (end) => {
    const child = start(process.execPath, node(end), 'pipe')
    const exited = once(child, 'exit')
    if (child.stdout === null) throw new Error('no standard output')
    expectAllLines(await text(child.stdout))
    expect(await exited).toEqual([EXIT_CODES[end], null])
  })

  it.each(ENDS)('loses no line on a pipe when the process ends by %s', async (end) => {
    const script = '"$@" | { sleep 0.1; cat; }'
    const child = start('/bin/sh', ['-c', script, 'sh', process.execPath, ...node(end)], 'pipe')
    if (child.stdout === null) throw new Error('no standard output')
    expectAllLines(await text(child.stdout))
  })

  it.each(ENDS)('appends every line to a file when the process ends by %s', async (end) => {
    const file = join(dir, 'log')
    await writeFile(file, 'before\n')
    const fd = openSync(file, 'a')
    const child = start(process.execPath, node(end), fd)
    closeSync(fd)
    expect(await once(child, 'exit')).toEqual([EXIT_CODES[end], null])
    const output = await readFile(file, 'utf8')
    expect(output.startsWith('before\n')).toBe(true)
    expectAllLines(output.slice('before\n'.length))
  })

  it('lets the process end as it wants when nobody reads, and when the disk is full', async () => {
    const stalled = start(process.execPath, node('exit'), 'pipe')
    expect(await once(stalled, 'exit')).toEqual([3, null])
    const fd = openSync('/dev/full', 'w')
    const full = start(process.execPath, node('fall'), fd)
    closeSync(fd)
    expect(await once(full, 'exit')).toEqual([0, null])
  })
})
