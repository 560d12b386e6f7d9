// Usage: prune-modules.mjs DIR
// Takes out of DIR/node_modules what a running daemon does not need: packages that only install others, other platforms'
// binaries, types, sources of native parts, maps, tests, documentation. Licenses stay. Prints what is left, and
// under which license.
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

/** Packages that no code of others loads at run time. */
const NEVER_LOADED = new Set(['prebuild-install', '@types/node'])
/** What nothing loads, by the name of the package. */
const UNUSED = [
  [/^@opentelemetry\//, ['build/esm', 'build/esnext']],
  [/^@koromix\//, ['musl_x64', 'musl_arm64']],
  [/^better-sqlite3$/, ['deps', 'src']],
  [/^koffi$/, ['cnoke.cjs', 'lib', 'src/koffi/src/trampolines.cjs']],
  [/^protobufjs$/, ['dist', 'cli', 'scripts']],
  [/^zod$/, ['src']],
  [/./, ['bin', 'bin.js', 'build/bin', 'build/test', '.github', '.husky', 'vendor']],
  [/./, ['test', 'tests', 'docs', 'doc', 'example', 'examples', 'benchmark', 'benchmarks']],
]
const UNUSED_FILES =
  /\.([cm]?ts|map|flow|cc?|cpp|hh?|hpp|inc|gypi?|S|asm|md|markdown|html|ico|yml|sh)$|^\.|^tsconfig|eslint/
const LICENSE = /^(licen[cs]e|copying|notice)/i

const [dir] = process.argv.slice(2)
const { packages } = JSON.parse(readFileSync(join(dir, 'package-lock.json'), 'utf8'))

/** The place of a package as seen from another, as Node looks for it; undefined where it is not installed. */
function resolve(from, name) {
  for (let at = from; ; at = dirname(at)) {
    const place = join(at, 'node_modules', name)
    if (packages[place]) return place
    if (at === '.') return undefined
  }
}

/** All that the package at this place needs, and what that needs. */
function collect(place, found = new Set()) {
  const { dependencies, optionalDependencies } = packages[place === '.' ? '' : place]
  for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
    const next = resolve(place, name)
    if (NEVER_LOADED.has(name) || next === undefined || found.has(next)) continue
    collect(next, found.add(next))
  }
  return found
}

const remove = (path) => rmSync(path, { recursive: true, force: true })
const needed = collect('.')
for (const place of Object.keys(packages)) {
  if (place !== '' && !needed.has(place)) remove(join(dir, place))
}
for (const place of needed) {
  const name = place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length)
  for (const [pattern, directories] of UNUSED) {
    if (pattern.test(name)) for (const directory of directories) remove(join(dir, place, directory))
  }
}
for (const entry of readdirSync(join(dir, 'node_modules'), { recursive: true, withFileTypes: true })) {
  const isUnused = UNUSED_FILES.test(entry.name) && !LICENSE.test(entry.name)
  if (entry.isFile() && isUnused) remove(join(entry.parentPath, basename(entry.name)))
}

// What is not there is for other machines.
const lines = [...needed]
  .filter((place) => existsSync(join(dir, place)))
  .map((place) => {
    const { name, version, license } = JSON.parse(readFileSync(join(dir, place, 'package.json'), 'utf8'))
    return `${name} ${version}: ${license}`
  })
process.stdout.write(`${[...new Set(lines)].sort().join('\n')}\n`)
