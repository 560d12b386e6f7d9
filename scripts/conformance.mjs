// What scripts/conformance.sh asks of the daemon, and the writer of its tables.
//   conformance.mjs node ENDPOINT                                          what is tested, as JSON
//   conformance.mjs report [--output=FILE] [--critest=VERSION] [--note=TEXT] NODE.json HANDLER=REPORT.json...
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { credentials, loadPackageDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

const CALL_MS = 30_000
/** Of a failure, as much as fits into a table. */
const MAX_WHY = 300
const LEFT_OUT = 'left out of this run'
/** What ginkgo calls a spec that has neither passed nor failed. */
const NOT_RUN = new Set(['skipped', 'pending'])

const [command, ...rest] = process.argv.slice(2)
try {
  if (command === 'node') console.log(JSON.stringify(await node(...rest)))
  else if (command === 'report') report(rest)
  else throw new Error('usage: conformance.mjs node ENDPOINT | report [OPTION...] NODE.json HANDLER=REPORT.json...')
} catch (error) {
  console.error(`conformance: ${error.message}`)
  process.exitCode = 1
}

/** The daemon, its handlers with the versions of their programs, and how many pods it has. */
async function node(endpoint) {
  const client = connect(endpoint)
  const call = (method, request) =>
    new Promise((resolve, reject) => {
      client[method](request, { deadline: Date.now() + CALL_MS }, (error, response) =>
        error ? reject(new Error(`${endpoint}: ${method}: ${error.details}`)) : resolve(response),
      )
    })
  const { runtime_name: name, runtime_version: version } = await call('Version', {})
  const { status, info } = await call('Status', { verbose: true })
  const unready = status.conditions.filter((condition) => !condition.status)
  if (unready.length > 0) {
    throw new Error(unready.map(({ type, reason, message }) => `${type}: ${reason} ${message}`).join('; '))
  }
  const config = JSON.parse(info.config ?? 'null')
  if (!config?.runtimes) throw new Error(`${endpoint} is a ${name}, which does not say what its runtimes are`)
  const handlers = Object.fromEntries(
    Object.entries(config.runtimes).map(([handler, { runtime, sandboxer }]) => [
      handler,
      { runtime: versionOf(runtime), sandboxer },
    ]),
  )
  const { items } = await call('ListPodSandbox', {})
  client.close()
  return {
    daemon: `${name} ${version}`,
    defaultHandler: config.defaultRuntimeHandler,
    handlers,
    conmon: versionOf(config.conmon.path),
    kernel: release(),
    cgroups: cgroupMode(),
    pods: items.length,
  }
}

/** `crun version 1.28` is enough. */
function versionOf(program) {
  try {
    return execFileSync(program, ['--version'], { encoding: 'utf8', timeout: CALL_MS }).split('\n')[0].trim()
  } catch (error) {
    return `unknown: ${error.message}`
  }
}

function cgroupMode() {
  if (existsSync('/sys/fs/cgroup/cgroup.controllers')) return 'v2'
  return existsSync('/sys/fs/cgroup/unified') ? 'hybrid (v1, with v2 beside it)' : 'v1'
}

/** Prints what came of the runs, and writes it as Markdown where that is asked for. Fails when a spec has. */
function report(args) {
  const options = {
    output: { type: 'string' },
    critest: { type: 'string', default: 'unknown' },
    note: { type: 'string', default: '' },
  }
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true })
  const [nodeFile, ...named] = positionals
  const about = JSON.parse(readFileSync(nodeFile, 'utf8'))
  const runs = named.map((text) => {
    const [handler, file] = [text.slice(0, text.indexOf('=')), text.slice(text.indexOf('=') + 1)]
    return { handler, ...readRun(file) }
  })
  const sections = [summary(runs, about), groups(runs), failures(runs), skipped(runs)].filter(({ rows }) => rows.length)
  console.log(sections.map(asText).join('\n'))
  if (values.output) writeFileSync(values.output, asMarkdown(sections, runs, about, values))
  const failed = runs.reduce((sum, run) => sum + count(run.specs, 'failed'), 0)
  if (failed > 0) throw new Error(`${failed} ${failed === 1 ? 'spec has' : 'specs have'} failed`)
  const idle = runs.find(({ specs }) => count(specs, 'passed') === 0)
  if (idle) throw new Error(`no spec has run with handler ${idle.handler}`)
}

/** The specs of one report of ginkgo, each with its group, its name, what came of it, and why. */
function readRun(file) {
  const suites = JSON.parse(readFileSync(file, 'utf8'))
  const specs = suites.flatMap(specsOf)
  const at = suites.map(({ StartTime: start }) => start).sort()[0] ?? ''
  return { at, seconds: suites.reduce((sum, { RunTime: ns }) => sum + ns / 1e9, 0), specs }
}

function specsOf(suite) {
  const all = suite.SpecReports ?? []
  // Whoever has chosen some knows that there are others.
  const isChosen = ({ why }) => why !== LEFT_OUT || !suite.SuiteConfig?.FocusStrings?.length
  const specs = all
    .filter(({ LeafNodeType: type }) => type === 'It')
    .map(toSpec)
    .filter(isChosen)
  const hasFailed = specs.some(({ state }) => state === 'failed')
  if (suite.SuiteSucceeded || hasFailed) return specs
  // Something around the specs has failed, and with it the run.
  const around = all.filter(({ State: state }) => state !== 'passed' && !NOT_RUN.has(state)).map(toSpec)
  const why = (suite.SpecialSuiteFailureReasons ?? []).join('; ') || 'the suite has failed'
  return [...specs, ...(around.length > 0 ? around : [{ group: 'suite', name: 'suite', state: 'failed', why }])]
}

function toSpec({
  ContainerHierarchyTexts: of,
  LeafNodeText: leaf,
  LeafNodeType: type,
  State: state,
  Failure: failure,
}) {
  const [group = 'suite', ...parts] = (of ?? []).map((text) => text.replace(/^\[k8s\.io\] /, '').trim())
  const name = [group, ...parts, leaf || type].join(' / ')
  if (state === 'passed') return { group, name, state, why: '' }
  const said = (failure?.Message ?? '').trim().replace(/\s+/g, ' ').slice(0, MAX_WHY)
  if (!NOT_RUN.has(state)) return { group, name, state: 'failed', why: said || state }
  return { group, name, state: 'skipped', why: said || (isBenchmark(of) ? 'a benchmark' : LEFT_OUT) }
}

function isBenchmark(texts) {
  return (texts ?? []).some((text) => /benchmark/i.test(text))
}

function count(specs, state) {
  return specs.filter((spec) => spec.state === state).length
}

function summary(runs, { handlers }) {
  const rows = runs.map(({ handler, specs, seconds }) => [
    handler,
    handlers[handler].runtime,
    handlers[handler].sandboxer,
    count(specs, 'passed') + count(specs, 'failed'),
    count(specs, 'passed'),
    count(specs, 'failed'),
    count(specs, 'skipped'),
    `${Math.round(seconds)} s`,
  ])
  return {
    title: 'Runs',
    head: ['handler', 'runtime', 'sandboxer', 'run', 'passed', 'failed', 'skipped', 'took'],
    rows,
  }
}

/** Of each group, how many of those that ran have passed. */
function groups(runs) {
  const names = [...new Set(runs.flatMap(({ specs }) => specs.map(({ group }) => group)))].sort((a, b) =>
    a < b ? -1 : 1,
  )
  const cell = ({ specs }, name) => {
    const of = specs.filter(({ group }) => group === name)
    const passed = count(of, 'passed')
    const left = count(of, 'skipped')
    return `${passed} of ${passed + count(of, 'failed')}${left > 0 ? `, ${left} skipped` : ''}`
  }
  const rows = names.map((name) => [name, ...runs.map((run) => cell(run, name))])
  return { title: 'Passed, by group', head: ['group', ...runs.map(({ handler }) => handler)], rows }
}

function failures(runs) {
  return { title: 'Failed', head: ['spec', 'handlers', 'why'], rows: withState(runs, 'failed') }
}

function skipped(runs) {
  return { title: 'Skipped', head: ['spec', 'handlers', 'why'], rows: withState(runs, 'skipped') }
}

/** The specs in that state, with the handlers on which that is so, and why, as the first of these said it. */
function withState(runs, state) {
  const found = new Map()
  for (const { handler, specs } of runs) {
    for (const { name, why } of specs.filter((spec) => spec.state === state)) {
      const { handlers = [], why: first = why } = found.get(name) ?? {}
      found.set(name, { handlers: [...handlers, handler], why: first })
    }
  }
  return [...found]
    .map(([name, { handlers, why }]) => [name, handlers.length === runs.length ? 'all' : handlers.join(', '), why])
    .sort(([a], [b]) => (a < b ? -1 : 1))
}

function asText({ title, head, rows }) {
  const lines = [head.map((name) => name.toUpperCase()), ...rows].map((line) => line.map(String))
  // The last column may be as long as it likes.
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column].length)))
  return [title, ...lines.map((line) => `  ${line.map((cell, at) => cell.padEnd(widths[at])).join('  ')}`.trimEnd())]
    .join('\n')
    .concat('\n')
}

function asMarkdown(sections, runs, about, { critest, note }) {
  const facts = [
    ['date', runs[0].at.slice(0, 10)],
    ['daemon', about.daemon],
    ['critest', critest],
    ['monitor', about.conmon],
    ['kernel', about.kernel],
    ['cgroups', about.cgroups],
    ...(note === '' ? [] : [['note', note]]),
  ]
  return `<!-- Written by scripts/conformance.sh --output. -->

# Conformance

What [critest](https://github.com/kubernetes-sigs/cri-tools), the conformance tests of the CRI, says of the daemon. A spec that
was skipped has not run: critest itself, or what it runs on, says why.

${markdownTable(['', ''], facts)}
${sections.map(({ title, head, rows }) => `## ${title}\n\n${markdownTable(head, rows)}`).join('\n')}`
}

function markdownTable(head, rows) {
  const line = (cells) => `| ${cells.map((cell) => String(cell).replace(/[|<]/g, '\\$&')).join(' | ')} |\n`
  return [line(head), `|${'---|'.repeat(head.length)}\n`, ...rows.map(line)].join('')
}

function connect(endpoint) {
  const includeDirs = [fileURLToPath(new URL('../proto', import.meta.url))]
  const proto = loadSync('runtime/v1/api.proto', { keepCase: true, longs: String, defaults: true, includeDirs })
  const { RuntimeService } = loadPackageDefinition(proto).runtime.v1
  return new RuntimeService(endpoint, credentials.createInsecure())
}
