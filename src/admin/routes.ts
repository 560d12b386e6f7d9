import type { Container } from '../container/container.ts'
import { CodedError, invalidField } from '../core/errors.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import type { Stats } from '../stats/types.ts'
import type { LedgerEntry } from '../store/ledger.ts'
import type { Store } from '../store/store.ts'
import type {
  DaemonStatus,
  Finding,
  Forgotten,
  PullProgress,
  Reload,
  RunningOperation,
  SandboxerStatus,
} from './api.ts'
import { findOwner } from './find-owner.ts'
import type { Happenings } from './happenings.ts'
import { inspection, type InspectionDeps } from './inspection.ts'
import { ledgerLine, ledgerLines } from './ledger-lines.ts'
import { podSummaries } from './pods.ts'
import type { Answer, Routes } from './route.ts'
import { runtimeState, type RuntimeStateDeps } from './runtime-state.ts'
import { podUsages } from './usage.ts'

/** What others do that is asked for here. What is not there answers UNIMPLEMENTED. */
export interface Others {
  /** What is under way. Without it nothing is told. */
  readonly operations?: () => readonly RunningOperation[]
  /** Asks every remote sandboxer, with a short deadline. */
  readonly probeSandboxers?: (signal: AbortSignal) => Promise<readonly Omit<SandboxerStatus, 'sandboxes'>[]>
  readonly logLevels?: {
    /** By room; `''` is the level of all, and an empty level means that one. */
    levels(): Readonly<Record<string, string>>
    /** All or none. @throws CodedError `InvalidArgument` naming what is not known. */
    setLevels(levels: Readonly<Record<string, string>>): void
  }
  readonly reload?: (signal: AbortSignal) => Promise<Reload>
  readonly doctor?: (fix: boolean, signal: AbortSignal) => Promise<readonly Finding[]>
  /** @param body must not be logged. */
  readonly pull?: (body: unknown, signal: AbortSignal) => AsyncIterable<PullProgress>
  /** In the text format of Prometheus. */
  readonly metrics?: () => Promise<string>
}

export interface AdminDeps {
  readonly status: () => Omit<DaemonStatus, 'running'>
  /** The names of those sandboxers that are part of the daemon. */
  readonly builtInSandboxers: readonly string[]
  readonly sandboxes: () => readonly Sandbox[]
  readonly containers: () => readonly Container[]
  readonly store: Pick<Store, 'rowsOf'>
  readonly inspection: InspectionDeps
  readonly runtime: RuntimeStateDeps
  readonly stats: Pick<Stats, 'sandboxes'>
  readonly happenings: Happenings
  /** @throws CodedError `NotFound`, or `FailedPrecondition` when the release of that entry is not owed. */
  readonly forgetOwed: (ownerId: string, seq: number) => Promise<LedgerEntry>
  readonly others: Others
}

/** Findings take a look at everything there is, and repairs take the time that releases take. */
const DOCTOR_MS = 10 * 60_000
const RELOAD_MS = 60_000
/** What is left is released meanwhile. */
const FORGET_MS = 2 * 60_000

/** All that the admin server answers; see api.ts. */
export function adminRoutes(deps: AdminDeps): Routes {
  const { sandboxes, containers, others } = deps
  return {
    'GET /v1/status': { answer: async () => ({ json: { ...deps.status(), running: others.operations?.() ?? [] } }) },
    'GET /v1/pods': { answer: async () => ({ json: podSummaries(sandboxes(), containers()) }) },
    'GET /v1/inspect/*': {
      answer: async ({ parameter, signal }) => ({ json: await inspect(parameter, deps, signal) }),
    },
    'GET /v1/ledger': {
      answer: async () => ({ json: ledgerLines([...sandboxes(), ...containers()].flatMap(({ entries }) => entries)) }),
    },
    'DELETE /v1/ledger/*': {
      timeoutMs: FORGET_MS,
      answer: async ({ parameter }) => ({ json: await forget(parameter, deps) }),
    },
    'GET /v1/sandboxers': { answer: async ({ signal }) => ({ json: await sandboxerStates(deps, signal) }) },
    'GET /v1/usage': {
      answer: async ({ signal }) => ({ json: podUsages(await deps.stats.sandboxes({}, signal)) }),
    },
    'GET /v1/events': {
      isStream: true,
      answer: async ({ signal }) => ({ lines: deps.happenings.follow(signal) }),
    },
    ...otherRoutes(others),
  }
}

function otherRoutes({ logLevels, reload, doctor, pull, metrics }: Others): Routes {
  return {
    'GET /v1/log-levels': { answer: async () => ({ json: known(logLevels, 'log levels').levels() }) },
    'PUT /v1/log-levels': {
      answer: async ({ body }) => {
        const logs = known(logLevels, 'log levels')
        logs.setLevels(levelsOf(body))
        return { json: logs.levels() }
      },
    },
    'POST /v1/reload': {
      timeoutMs: RELOAD_MS,
      answer: async ({ signal }) => ({ json: await known(reload, 'reload')(signal) }),
    },
    'POST /v1/doctor': {
      timeoutMs: DOCTOR_MS,
      answer: async ({ query, signal }) => {
        const fix = query.get('fix') ?? 'false'
        if (fix !== 'true' && fix !== 'false') throw invalidField('fix', 'must be true or false')
        return { json: await known(doctor, 'doctor')(fix === 'true', signal) }
      },
    },
    'POST /v1/images/pull': {
      isStream: true,
      answer: async ({ body, signal }) => ({ lines: known(pull, 'pull')(body, signal) }),
    },
    'GET /metrics': {
      answer: async (): Promise<Answer> => {
        const text = await known(metrics, 'metrics')()
        return { text, contentType: 'text/plain; version=0.0.4; charset=utf-8' }
      },
    },
  }
}

function known<T>(what: T | undefined, name: string): T {
  if (what === undefined) throw new CodedError('Unimplemented', `${name}: this sandboxerd cannot do that`)
  return what
}

async function inspect(reference: string, deps: AdminDeps, signal: AbortSignal): Promise<unknown> {
  const found = findOwner(reference, deps.sandboxes(), deps.containers())
  const [rows, runtime] = await Promise.all([
    deps.store.rowsOf(found.facts.metadata.id),
    runtimeState(found, deps.runtime, signal),
  ])
  return inspection(found, rows, runtime, deps.inspection)
}

async function forget(parameter: string, deps: AdminDeps): Promise<Forgotten> {
  const [, id = '', seq = ''] = /^([0-9a-f]{64})\/(\d{1,9})$/.exec(parameter) ?? []
  if (id === '') throw new CodedError('InvalidArgument', 'path: must end with a whole id and the number of an entry')
  const entry = await deps.forgetOwed(id, Number(seq))
  const owner = [...deps.sandboxes(), ...deps.containers()].find((candidate) => candidate.metadata.id === id)
  return { entry: ledgerLine(entry), left: ledgerLines(owner?.entries ?? []) }
}

async function sandboxerStates(deps: AdminDeps, signal: AbortSignal): Promise<readonly SandboxerStatus[]> {
  const remote = await known(deps.others.probeSandboxers, 'sandboxers')(signal)
  const builtIn = deps.builtInSandboxers.map((name) => {
    return { name, address: null, reachable: true, latencyMs: null, problem: null }
  })
  const all = deps.sandboxes()
  return [...builtIn, ...remote].map((state) => {
    return { ...state, sandboxes: all.filter(({ metadata }) => metadata.sandboxer === state.name).length }
  })
}

function levelsOf(body: unknown): Readonly<Record<string, string>> {
  const isTable = typeof body === 'object' && body !== null && !Array.isArray(body)
  if (isTable && Object.values(body).every((level) => typeof level === 'string')) return body as Record<string, string>
  throw new CodedError('InvalidArgument', 'body: must be an object of room to level')
}
