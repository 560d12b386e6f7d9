import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const REPO = fileURLToPath(new URL('../../..', import.meta.url))
const SRC = join(REPO, 'src')

/** Rooms import from rooms further down this list, never from their own line or from above. */
const LEVELS: readonly (readonly string[])[] = [
  ['cli', 'ctl', 'daemon'],
  ['cri', 'sandboxer', 'streaming', 'admin'],
  ['doctor'],
  ['sandbox', 'container', 'stats'],
  ['lifecycle'],
  ['controller', 'cni', 'cdi', 'netns', 'image', 'checkpoint', 'store', 'executor'],
  ['client'],
  ['grpc', 'ttrpc'],
  ['oci', 'host', 'telemetry'],
  ['core'],
]
/** Beside the levels: `config` is known to those who start the daemon; generated types describe the wire to everybody. */
const ALSO: Readonly<Record<string, readonly string[]>> = {
  cli: ['config'],
  ctl: ['config', 'cli', 'daemon'],
  daemon: ['config', 'cli'],
  config: ['core', 'host'],
}
/** Types, and nothing that runs, across a level: these describe what `daemon` hands over. */
const TYPES_OF: Readonly<Record<string, readonly string[]>> = { controller: ['executor'], telemetry: ['config'] }

/** Packages and what they stand for, each with the rooms that may use it. */
const DOORS: readonly (readonly [what: string, pattern: RegExp, rooms: readonly string[]])[] = [
  ['SQLite', /from 'better-sqlite3'/, ['store']],
  ['SQL', /\b(SELECT\s[^;]+?\sFROM|INSERT\s(OR\s\w+\s)?INTO|DELETE\sFROM|UPDATE\s\w+\sSET|CREATE\sTABLE)\s/, ['store']],
  ['a way to run programs (execa)', /from 'execa'/, ['host']],
  ['a way to run programs (node:child_process)', /from '(node:)?child_process'/, ['host']],
  ['native calls (koffi)', /from 'koffi'/, ['host']],
]

interface Import {
  readonly from: string
  readonly to: string
  readonly typeOnly: boolean
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.startsWith('generated/') && !file.startsWith('.'))
  .map((file) => ({ file, room: roomOf(file), text: readFileSync(join(SRC, file), 'utf8') }))
const rooms = [...new Set(files.map(({ room }) => room))].filter((room) => room !== '')

/** `cri/service.ts` → `cri`; `''` for the entry points that lie in src/ itself, which may import anything. */
function roomOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : ''
}

function importsOf(file: string, text: string): Import[] {
  const found = text.matchAll(
    /^(?:import|export)\s(type\s)?[^'"]*?from '(\.[^']+)'|(?:import\(|new URL\()'(\.[^']+)'/gm,
  )
  return [...found].map(([, type, from, dynamic]) => {
    const to = relative(SRC, normalize(join(SRC, dirname(file), from ?? dynamic ?? '')))
    return { from: file, to, typeOnly: type !== undefined }
  })
}

function isAllowed({ from, to, typeOnly }: Import): boolean {
  const [room, target] = [roomOf(from), roomOf(to)]
  if (room === '' || room === target || target === 'generated' || to.startsWith('..')) return true
  if (ALSO[room]?.includes(target) || (typeOnly && TYPES_OF[room]?.includes(target))) return true
  const level = LEVELS.findIndex((line) => line.includes(room))
  return level >= 0 && LEVELS.slice(level + 1).some((line) => line.includes(target))
}

describe('the rooms of src', () => {
  it('import only from rooms below them', () => {
    const wrong = files.flatMap(({ file, text }) => importsOf(file, text)).filter((found) => !isAllowed(found))
    expect(wrong.map(({ from, to }) => `src/${from} must not import src/${to}: see LEVELS in layers.test.ts`)).toEqual(
      [],
    )
  })

  it('are all in the table of levels', () => {
    const known = [...LEVELS.flat(), ...Object.keys(ALSO)]
    expect(rooms.filter((room) => !known.includes(room)).map((room) => `src/${room}/ has no level`)).toEqual([])
  })

  it('go to SQL, to programs and to native code only through the doors meant for it', () => {
    const wrong = DOORS.flatMap(([what, pattern, allowed]) =>
      files
        .filter(({ room, text }) => !allowed.includes(room) && pattern.test(text))
        .map(
          ({ file }) => `src/${file} uses ${what}, which only ${allowed.map((room) => `src/${room}`).join(', ')} may`,
        ),
    )
    expect(wrong).toEqual([])
  })

  it('export by name', () => {
    const wrong = files.filter(({ text }) => /^export (default|\{[^}]*\bas default\b)/m.test(text))
    expect(wrong.map(({ file }) => `src/${file} has a default export`)).toEqual([])
  })

  it('have one line each in docs/architecture.md that says what they are for', () => {
    const page = readFileSync(join(REPO, 'docs/architecture.md'), 'utf8')
    const explained = [...page.matchAll(/^\| `src\/([\w-]+)\/` +\| *([^|\s][^|]*?) *\|$/gm)].map(
      ([, room = '']) => room,
    )
    expect(explained.toSorted()).toEqual(rooms.toSorted())
  })
})
