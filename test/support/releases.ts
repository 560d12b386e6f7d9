import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runOk } from '../../src/host/programs/run.ts'

const REPO = fileURLToPath(new URL('../..', import.meta.url))
const RELEASES = join(REPO, 'test/fixtures/releases')
const BUILD_MS = 300_000

/** What is on record of a released version: what it was made of, and what it has written. */
export interface Release {
  readonly version: string
  /** With `sandboxerd.db`, `checkpoint.key`, checkpoints and `facts.json`. */
  readonly dir: string
}

/** What a fixture holds, as the daemon that made it told. */
export interface ReleaseFacts {
  readonly schema: number
  readonly pods: readonly { readonly id: string; readonly state: string; readonly ips: readonly string[] }[]
  readonly containers: readonly {
    readonly id: string
    readonly podId: string
    readonly state: string
    readonly exitCode: number
  }[]
  /** `kind state` of each entry of the ledger, by owner. */
  readonly ledger: Readonly<Record<string, readonly string[]>>
}

/** Every version that there is a fixture of, the oldest first. */
export function releases(): Release[] {
  return readdirSync(RELEASES)
    .toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .map((version) => ({ version, dir: join(RELEASES, version) }))
}

export function factsOf({ dir }: Release): ReleaseFacts {
  return JSON.parse(readFileSync(join(dir, 'facts.json'), 'utf8')) as ReleaseFacts
}

/** The newest version of which the history of this checkout has the sources; undefined, and that said aloud, without any. */
export async function lastRelease(): Promise<(Release & { readonly commit: string }) | undefined> {
  const withCommit = releases().filter(({ dir }) => existsSync(join(dir, 'commit')))
  const last = withCommit.at(-1)
  if (!last) return undefined
  const commit = readFileSync(join(last.dir, 'commit'), 'utf8').trim()
  try {
    await runOk('git', ['-C', REPO, 'cat-file', '-e', `${commit}^{commit}`], { timeoutMs: 10_000 })
    return { ...last, commit }
  } catch {
    process.emitWarning(
      `commit ${commit} of ${last.version} is not in this history: tests with that version are skipped`,
    )
    return undefined
  }
}

/** An older version of the daemon, ready to run. */
export interface BuiltRelease extends Disposable {
  readonly dir: string
  readonly main: string
  /** The version of its schema. */
  readonly schema: number
}

/** Builds a version from the history of this checkout, with the packages that are installed here. */
export async function buildRelease(commit: string): Promise<BuiltRelease> {
  const dir = mkdtempSync(join(tmpdir(), 'sbx-release-'))
  try {
    const archive = join(dir, 'sources.tar')
    await runOk('git', ['-C', REPO, 'archive', '-o', archive, commit], { timeoutMs: BUILD_MS })
    await runOk('tar', ['-xf', archive, '-C', dir], { timeoutMs: BUILD_MS })
    symlinkSync(join(REPO, 'node_modules'), join(dir, 'node_modules'))
    await runOk('bash', [join(dir, 'scripts/build.sh')], { timeoutMs: BUILD_MS })
    const { MIGRATIONS } = (await import(join(dir, 'dist/store/schema.js'))) as { MIGRATIONS: readonly unknown[] }
    const main = join(dir, 'dist/main.js')
    return { dir, main, schema: MIGRATIONS.length, [Symbol.dispose]: () => rmSync(dir, { recursive: true }) }
  } catch (error) {
    rmSync(dir, { recursive: true })
    throw error
  }
}
