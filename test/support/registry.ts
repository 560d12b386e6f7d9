import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { runOk } from '../../src/host/programs/run.ts'
import { slowed } from './slowness.ts'

/** Debian's package of the same name. */
const PROGRAM = '/usr/bin/docker-registry'
const START_MS = slowed(20_000)

/** Who may pull and push where `auth` is asked for. */
export const REGISTRY_USER = { username: 'tester', password: 'secret' } as const
/** bcrypt of that password. */
const PASSWORD_HASH = '$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a'

export interface RegistryOptions {
  /** Asks for {@link REGISTRY_USER}. */
  readonly auth?: boolean
  /** Serves HTTPS with a certificate for 127.0.0.1 that signs itself. */
  readonly tls?: boolean
  /** The network namespace (of `ip netns`) on whose loopback it serves; default: this process's. */
  readonly node?: string
  /** Where its blobs lie, to share them with another one; default: a directory of its own, removed with it. */
  readonly storage?: string
}

/** A registry on a free port of the loopback. Ends, and takes its files with it, when it is disposed of. */
export interface Registry extends AsyncDisposable {
  /** `127.0.0.1:41777`. */
  readonly address: string
  readonly storage: string
  readonly node: string | undefined
  /** The certificate to trust, or `''`. */
  readonly caFile: string
  readonly auth: boolean
  readonly tls: boolean
  /** Its access log: one line for each request. */
  log(): string
}

const running = new Set<ChildProcess>()
// A test run that is cut short takes its registries with it.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** Starts one; it answers when this returns. */
export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const { auth = false, tls = false, node } = options
  const dir = await mkdtemp(join(tmpdir(), 'sbx-registry-'))
  try {
    const storage = options.storage ?? join(dir, 'storage')
    await mkdir(storage, { recursive: true })
    if (auth) await writeFile(join(dir, 'htpasswd'), `${REGISTRY_USER.username}:${PASSWORD_HASH}\n`)
    if (tls) await makeCertificate(dir)
    await writeFile(join(dir, 'config.json'), JSON.stringify(configuration(dir, storage, auth, tls)))
    const { child, log } = serve(join(dir, 'config.json'), node)
    const address = await listening(child, log)
    const end = async (): Promise<void> => {
      await ended(child)
      // Ours from mkdtemp.
      await rm(dir, { recursive: true, force: true })
    }
    const caFile = tls ? join(dir, 'ca.crt') : ''
    return { address, storage, node, caFile, auth, tls, log, [Symbol.asyncDispose]: end }
  } catch (error) {
    await rm(dir, { recursive: true, force: true })
    throw error
  }
}

/** Runs a program where the registry is. */
export async function besideRegistry(registry: Registry, file: string, args: readonly string[]): Promise<string> {
  const [program, all] = inNode(registry.node, file, args)
  return (await runOk(program, all, { timeoutMs: slowed(60_000) })).stdout
}

/** JSON is YAML. */
function configuration(dir: string, storage: string, auth: boolean, tls: boolean): object {
  return {
    version: '0.1',
    log: { level: 'info', accesslog: { disabled: false } },
    storage: { filesystem: { rootdirectory: storage }, delete: { enabled: true } },
    http: {
      addr: '127.0.0.1:0',
      secret: 'tests',
      ...(tls ? { tls: { certificate: join(dir, 'ca.crt'), key: join(dir, 'ca.key') } } : {}),
    },
    ...(auth ? { auth: { htpasswd: { realm: 'tests', path: join(dir, 'htpasswd') } } } : {}),
  }
}

function serve(config: string, node: string | undefined): { child: ChildProcess; log: () => string } {
  const [file, args] = inNode(node, PROGRAM, ['serve', config])
  const child = spawn(file, args, { cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      text += data.toString()
    })
  }
  running.add(child)
  child.once('exit', () => running.delete(child))
  return { child, log: () => text }
}

function inNode(node: string | undefined, file: string, args: readonly string[]): [string, string[]] {
  return node === undefined ? [file, [...args]] : ['/usr/bin/nsenter', [`--net=/run/netns/${node}`, file, ...args]]
}

async function listening(child: ChildProcess, log: () => string): Promise<string> {
  const end = performance.now() + START_MS
  let failure = ''
  child.once('error', (error) => {
    failure = error.message
  })
  for (;;) {
    const address = /listening on (127\.0\.0\.1:\d+)/.exec(log())?.[1]
    if (address !== undefined) return address
    const hasEnded = failure !== '' || child.exitCode !== null || child.signalCode !== null
    if (hasEnded || performance.now() > end) {
      await ended(child)
      throw new Error(`the registry does not listen: ${failure}${log()}`)
    }
    await sleep(5)
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const end = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
  })
  child.kill('SIGKILL')
  await end
}

async function makeCertificate(dir: string): Promise<void> {
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  const names = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1']
  const files = ['-keyout', join(dir, 'ca.key'), '-out', join(dir, 'ca.crt')]
  await runOk('/usr/bin/openssl', [...args, ...names, ...files], { timeoutMs: slowed(20_000) })
}
