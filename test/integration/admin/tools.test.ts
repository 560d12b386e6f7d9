import { existsSync, readdirSync } from 'node:fs'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { PullProgress } from '../../../src/admin/api.ts'
import type { PartReport } from '../../../src/ctl/support/collect.ts'
import { run, runOk } from '../../../src/host/programs/run.ts'
import { ownDaemons, sharedDaemon, type TestDaemon } from '../../support/daemon.ts'
import { pushImage } from '../../support/images.ts'
import { REGISTRY_USER, startRegistry } from '../../support/registry.ts'
import { ctl, ctlCommand, ctlJson, GoingCtl, TerminalCtl } from '../../support/sandboxerctl.ts'
import { slowed } from '../../support/slowness.ts'
import { TestPod } from '../../support/test-pod.ts'

const SECRET = 'canary-5d41402abc4b2a76'

const daemon = sharedDaemon({
  config: ({ dir }) => ({ images: { skopeo: join(dir, 'skopeo') } }),
})
const own = ownDaemons()

/** skopeo, which notes its arguments, and waits with a copy, some of which has come, while there is a file `hold`. */
async function writeSkopeo(dir: string): Promise<void> {
  const script = `#!/bin/sh
echo "$*" >>${dir}/skopeo.log
case " $* " in *" copy "*)
  if [ -e ${dir}/hold ]; then
    mkdir "$TMPDIR/storage1" && head -c 1000 /dev/zero >"$TMPDIR/storage1/1"
    while [ -e ${dir}/hold ]; do sleep 0.05; done
    rm -r "$TMPDIR/storage1"
  fi ;;
esac
exec /usr/bin/skopeo "$@"
`
  await writeFile(join(dir, 'skopeo'), script)
  await chmod(join(dir, 'skopeo'), 0o755)
}

function leftOfPulls({ dir }: TestDaemon): string[] {
  return [join(dir, 'root/images/tmp'), join(dir, 'state/images-auth')].flatMap((path) => readdirSync(path))
}

beforeAll(async () => await writeSkopeo(daemon().dir))

describe('sandboxerctl pull', () => {
  afterEach(async () => await rm(join(daemon().dir, 'hold'), { force: true }))

  it.each(['one', 'of an index'])('tells how far it is, and which image came (%s)', async (kind) => {
    const architectures = kind === 'one' ? {} : { architectures: ['s390x', 'amd64', 'arm64'] }
    const name = kind === 'one' ? 'single' : 'multi'
    const { ref, id, layerBytes } = await daemon().images.push({
      name,
      layers: [[{ path: name, content: Buffer.alloc(100_000, name) }]],
      compression: 'none',
      ...architectures,
    })
    await writeFile(join(daemon().dir, 'hold'), '')
    await using pull = new GoingCtl(daemon(), 'pull', '--json', ref)
    await pull.until(({ stdout }) => stdout.includes(`"doneBytes":1000,"totalBytes":${layerBytes}`))
    await rm(join(daemon().dir, 'hold'))
    expect(await pull.ended()).toBe(0)
    const lines = pull.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as PullProgress)
    expect(lines[0]).toEqual({ stage: 'resolve', doneBytes: 0, totalBytes: null })
    expect(lines.at(-2)?.stage).toBe('store')
    expect(lines.at(-1)).toEqual({ stage: 'done', doneBytes: layerBytes, totalBytes: layerBytes, imageRef: id })
    expect(await daemon().client.images.status(ref)).not.toBeNull()
    expect((await ctl(daemon(), 'pull', ref)).stdout).toMatch(
      new RegExp(`^asking the registry\n${id} \\(nothing to fetch, `),
    )
  })

  it('ends the pull with Ctrl-C, and leaves nothing of it', async () => {
    const layers = [[{ path: 'late', content: Buffer.alloc(3000, 'late') }]]
    const { ref } = await daemon().images.push({ name: 'late', layers, compression: 'none' })
    await writeFile(join(daemon().dir, 'hold'), '')
    await using pull = new TerminalCtl(daemon(), 'pull', ref)
    await pull.until(({ stdout }) => /\rdownloading +\[=+ *\]/.test(stdout))
    pull.type('\u0003')
    expect(await pull.ended()).toBe(130)
    await expect.poll(() => leftOfPulls(daemon()), { timeout: 20_000 }).toEqual([])
    expect(await daemon().client.images.status(ref)).toBeNull()
    const left = await run('/usr/bin/pgrep', ['-f', join(daemon().dir, 'skopeo')], { timeoutMs: 5000 })
    expect(left.stdout).toBe('')
  })

  it('logs in with a password from standard input or with a file, and shows it to nobody', async () => {
    await using registry = await startRegistry({ node: daemon().node, auth: true })
    const known = await readFile(daemon().images.registriesConf, 'utf8')
    const table = `[[registry]]\nlocation = "${registry.address}"\ninsecure = true\n`
    await writeFile(daemon().images.registriesConf, known + table)
    const images = await Promise.all(
      ['a', 'b'].map((name) => pushImage(registry, { name, layers: [[{ path: name, content: name }]] })),
    )
    const [byUser, byFile] = images.map(({ ref }) => ref)
    if (byUser === undefined || byFile === undefined) throw new Error('no images')
    const refused = await ctl(daemon(), 'pull', byUser)
    expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('sandboxerctl: pull ') as string })

    const [file = '', ...args] = ctlCommand(daemon(), 'pull', '--user', REGISTRY_USER.username, byUser)
    const pulled = await run(file, args, { timeoutMs: 30_000, input: `${REGISTRY_USER.password}\n` })
    expect(pulled).toMatchObject({ exitCode: 0, stderr: '' })

    const basic = Buffer.from(`${REGISTRY_USER.username}:${REGISTRY_USER.password}`).toString('base64')
    const authFile = join(daemon().dir, 'auth.json')
    await writeFile(authFile, JSON.stringify({ auths: { [registry.address]: { auth: basic } } }), { mode: 0o600 })
    expect(await ctl(daemon(), 'pull', '--auth-file', authFile, byFile)).toMatchObject({ exitCode: 0 })

    for (const text of [daemon().logs(), await readFile(join(daemon().dir, 'skopeo.log'), 'utf8')]) {
      expect(text).not.toContain(basic)
      expect(text).not.toContain(`${REGISTRY_USER.username}:${REGISTRY_USER.password}`)
    }
    expect(leftOfPulls(daemon())).toEqual([])
    expect((await ctl(daemon(), 'pull', '--user', 'a:b', byFile)).exitCode).toBe(2)
  })

  it('says what cannot be pulled', async () => {
    const { address } = await daemon().images.registry()
    expect(await ctl(daemon(), 'pull', `${address}/no/such:1`)).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('no/such') as string,
    })
    expect(await ctl(daemon(), 'pull', 'NOT A NAME')).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('its name is not one') as string,
    })
  })
})

describe('sandboxerctl bench', () => {
  it('runs pods and removes them', async () => {
    const image = await daemon().pull({ name: 'sleeper', config: { Cmd: ['/bin/sleep', '1000'] } })
    const result = await ctlJson<Record<string, unknown>>(
      ...([daemon(), 'bench', '--pods', '3', '--concurrency', '2', '--image', image] as const),
    )
    expect(result).toMatchObject({ pods: 3, completed: 3, failed: 0, errors: [], left: [], hasNetwork: false })
    const calls = (result['calls'] as readonly { name: string; count: number; p50Ms: number; p99Ms: number }[]) ?? []
    for (const name of ['RunPodSandbox', 'CreateContainer', 'StartContainer', 'StopPodSandbox', 'RemovePodSandbox']) {
      const call = calls.find((one) => one.name === name)
      expect(call).toMatchObject({ count: 3 })
      expect(call?.p99Ms).toBeGreaterThan(0)
    }
    expect(JSON.stringify(result['steps'])).toContain('recordIntent')
    expect(await daemon().client.list()).toEqual([])
    const table = await ctl(daemon(), 'bench', '--pods', '1', '--pod-network')
    expect(table.stdout).toMatch(/^1 of 1 pods run, stopped and removed in .*\n.*with networks of their own/)
    expect(table.stdout).toMatch(/setupSandboxNetwork +1 /)
    expect(await ctl(daemon(), 'bench', '--image', 'no/such:1')).toMatchObject({ exitCode: 1 })
    expect(await ctl(daemon(), 'bench', '--pods', '1.5')).toMatchObject({ exitCode: 2 })
  })

  it('removes what it has begun after Ctrl-C', async () => {
    await using bench = new GoingCtl(daemon(), 'bench', '--pods', '10000', '--concurrency', '2')
    await expect.poll(async () => (await daemon().client.list()).length, { timeout: 20_000 }).toBeGreaterThan(0)
    bench.interrupt()
    expect(await bench.ended()).toBe(130)
    expect(bench.stdout).toMatch(/^\d+ of 10000 pods run, stopped and removed/)
    expect(await daemon().client.list()).toEqual([])
  })

  it('tells pods that fail', async () => {
    const failed = await ctl(daemon(), 'bench', '--pods', '2', '--handler', 'nonsense')
    expect(failed.exitCode).toBe(1)
    expect(failed.stdout).toContain('2 pods failed')
    expect(failed.stdout).toContain('RunPodSandbox: ')
  })
})

describe('sandboxerctl support-bundle', () => {
  let dir: string
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'sbx-support-'))
  })
  afterEach(async () => await rm(dir, { recursive: true, force: true }))

  /** The parts of a bundle by their names, and what is told of them. */
  async function bundle(
    of: TestDaemon,
    timeout = '20',
  ): Promise<{ files: Map<string, string>; reports: Map<string, PartReport> }> {
    const file = join(dir, `${readdirSync(dir).length}.tar.gz`)
    const answer = await ctlJson<{ file: string; parts: readonly PartReport[] }>(
      of,
      'support-bundle',
      '-o',
      file,
      '--timeout',
      timeout,
    )
    expect(answer.file).toBe(file)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    await runOk('/usr/bin/tar', ['-xzf', file, '-C', dir], { timeoutMs: 20_000 })
    const root = join(dir, 'sandboxerd-support')
    const names = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => name.includes('.'))
    const files = await Promise.all(
      names.map(async (name) => [name, await readFile(join(root, name), 'utf8')] as const),
    )
    return { files: new Map(files), reports: new Map(answer.parts.map((part) => [part.name, part])) }
  }

  it(
    'has what helps, and no secret, with the daemon, without it, and with one that hangs',
    async () => {
      const mine = await own({
        config: { sandboxers: { gone: { address: '/run/nobody.sock' } } },
        // It is in the environment of the daemon.
        failpoints: `run.nothing.before=error(${SECRET})`,
      })
      const config = join(mine.dir, 'config.toml')
      await writeFile(config, `# password ${SECRET}\n${await readFile(config, 'utf8')}`)
      const annotations = { 'example.com/token': SECRET, note: `password=${SECRET}` }
      const pod = await TestPod.run(mine, '', { ...mine.pod(), annotations })
      await pod.start({ env: { DB_PASSWORD: SECRET }, args: [`--token=${SECRET}`] })

      const well = await bundle(mine)
      const pods = JSON.parse(well.files.get('daemon/pods.json') ?? '') as readonly unknown[]
      expect(pods).toMatchObject([{ id: pod.id, state: 'RUNNING' }])
      for (const name of ['status', 'ledger', 'usage', 'log-levels', 'sandboxers', 'doctor']) {
        expect(well.reports.get(`daemon/${name}.json`)?.problem, name).toBeNull()
      }
      expect(well.files.get('daemon/metrics.txt')).toContain('sandboxerd_sandboxes')
      expect(well.files.get('daemon/process.txt')).toContain(`pid ${mine.pid}`)
      expect(well.files.get('node/mounts.txt')).toContain(mine.dir)
      expect(well.files.get('node/cgroups.txt')).toContain(pod.id)
      expect(well.files.get('node/versions.txt')).toContain('crun version')
      expect(well.files.get('config.json')).toContain(mine.dir)

      process.kill(mine.pid, 'SIGSTOP')
      const hung = await bundle(mine, '4')
      process.kill(mine.pid, 'SIGCONT')
      expect(hung.reports.get('daemon/status.json')?.problem).toContain('no ')
      expect(hung.files.get('daemon/pods.json')).toContain(pod.id)
      expect(hung.files.get('daemon/process.txt')).toContain(`pid ${mine.pid}`)

      await mine.kill9()
      const down = await bundle(mine)
      expect(down.reports.get('daemon/status.json')?.problem).toContain('is not running')
      expect(down.files.get('daemon/pods.json')).toContain(pod.id)
      expect(down.files.get('daemon/ledger.json')).toContain(pod.id)
      expect(down.reports.get('daemon/doctor.json')?.problem).toBeNull()

      for (const { files } of [well, hung, down]) {
        for (const [name, text] of files) expect(text.includes(SECRET), name).toBe(false)
      }
      await mine.launch()
      await mine.recovered()
      await mine.removeListed()
      // One that hangs is waited for.
    },
    slowed(120_000),
  )

  it('is made of what there is when the configuration cannot be read', async () => {
    const broken = join(dir, 'broken.toml')
    await writeFile(broken, `root = "${SECRET}`)
    const [file = '', ...args] = ctlCommand({ dir }, 'support-bundle', '--output', join(dir, 'x.tar.gz'))
    const words = args.map((word) => (word === join(dir, 'config.toml') ? broken : word))
    const { exitCode, stdout } = await run(file, words, { timeoutMs: 120_000 })
    expect(exitCode).toBe(0)
    expect(stdout).toContain('x.tar.gz: ')
    await runOk('/usr/bin/tar', ['-xzf', join(dir, 'x.tar.gz'), '-C', dir], { timeoutMs: 20_000 })
    const about = await readFile(join(dir, 'sandboxerd-support/config.json'), 'utf8')
    expect(about).toContain('embedded defaults')
    expect(about).not.toContain(SECRET)
    expect(existsSync(join(dir, 'sandboxerd-support/node/system.txt'))).toBe(true)
    expect((await ctl({ dir }, 'support-bundle', '-o', join(dir, 'x.tar.gz'))).exitCode).toBe(1)
  })
})
