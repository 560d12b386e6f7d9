import { cp, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { run, runOk } from '../../src/host/programs/run.ts'
import { onPath } from '../support/on-path.ts'
import { bootVm, whyNoVm } from '../support/vm.ts'

const REPO = fileURLToPath(new URL('../..', import.meta.url))
const FIXTURES = fileURLToPath(new URL('fixtures', import.meta.url))
const [OLDER, NEWER] = ['1.0.0', '1.0.1']
const BUILD_MS = 180_000
const VM_MS = 900_000
const hasTools = ['dpkg-deb', 'dpkg-shlibdeps', 'strip'].every((tool) => onPath(tool) !== undefined)
if (!hasTools) process.stderr.write('no dpkg-dev and binutils here: tests of the Debian package are skipped\n')
const NO_VM = whyNoVm()
if (NO_VM !== '') process.stderr.write(`${NO_VM}: the Debian package is not installed anywhere\n`)

let dir = ''
let root = ''

/** Builds a package, and returns its path. */
async function build(version: string): Promise<string> {
  const output = join(dir, version)
  const args = ['--fast', '--version', version, '--output', output]
  await runOk(join(REPO, 'scripts/package.sh'), args, { timeoutMs: BUILD_MS, env: environment() })
  const { stdout } = await runOk('/usr/bin/find', [output, '-name', '*.deb'], { timeoutMs: 10_000 })
  return stdout.trim()
}

function environment(): Record<string, string> {
  return { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '/root', SOURCE_DATE_EPOCH: '1700000000' }
}

/** `tar -tv` of what is in a package, line by line. */
async function listing(deb: string): Promise<string[]> {
  const { stdout } = await runOk('/usr/bin/dpkg-deb', ['--contents', deb], {
    timeoutMs: 60_000,
    maxOutputBytes: 2 ** 24,
  })
  return stdout.trim().split('\n')
}

const pathOf = (line: string): string => line.replace(/^(?:\S+\s+){5}\./, '')

describe.skipIf(!hasTools)('the Debian package', () => {
  let older = ''
  let newer = ''

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'sandboxerd-package-'))
    older = await build(OLDER)
    newer = await build(NEWER)
    root = join(dir, 'root')
    await runOk('/usr/bin/dpkg-deb', ['--raw-extract', older, root], { timeoutMs: 60_000 })
  }, 2 * BUILD_MS)
  afterAll(async () => {
    // Ours, and nothing is mounted in it.
    if (dir !== '') await rm(dir, { recursive: true })
  })

  it('holds what a node needs, with the modes that it needs', async () => {
    const lines = await listing(older)
    expect(lines.filter((line) => !/^[-dl]\S+ root\/root /.test(line))).toEqual([])
    const modes = new Map(lines.map((line) => [pathOf(line), line.slice(0, 10)]))
    const wanted = {
      '-rwxr-xr-x': ['/usr/bin/sandboxerd', '/usr/bin/sandboxerctl', '/usr/lib/sandboxerd/bin/node'],
      '-rw-r--r--': [
        '/etc/sandboxerd/config.toml',
        '/usr/lib/sandboxerd/dist/main.js',
        '/usr/lib/sandboxerd/dist/purge.js',
        '/usr/lib/sandboxerd/node_modules/better-sqlite3/build/Release/better_sqlite3.node',
        '/usr/lib/sandboxerd/package.json',
        '/usr/lib/sandboxerd/proto/runtime/v1/api.proto',
        '/usr/lib/systemd/system/sandboxerd.service',
        '/usr/lib/systemd/system/sandboxerd.socket',
        '/usr/share/bash-completion/completions/sandboxerctl',
        '/usr/share/bash-completion/completions/sandboxerd',
        '/usr/share/doc/sandboxerd/changelog.gz',
        '/usr/share/doc/sandboxerd/copyright',
        '/usr/share/fish/vendor_completions.d/sandboxerd.fish',
        '/usr/share/man/man5/sandboxerd.toml.5.gz',
        '/usr/share/man/man8/sandboxerctl.8.gz',
        '/usr/share/man/man8/sandboxerd.8.gz',
        '/usr/share/zsh/vendor-completions/_sandboxerd',
      ],
    }
    for (const [mode, paths] of Object.entries(wanted)) {
      for (const path of paths) expect(modes.get(path), path).toBe(mode)
    }
    const executable = [...modes].filter(([, mode]) => mode === '-rwxr-xr-x').map(([path]) => path)
    expect(executable.toSorted()).toEqual(wanted['-rwxr-xr-x'].toSorted())
  })

  it('holds nothing else: no sources, types, maps, tests, and no binaries of other machines', async () => {
    const paths = (await listing(older)).map(pathOf)
    expect(
      paths.filter(
        (path) => /\.(ts|map|cc|cpp|c|h|hpp|(?<!LICENSE\.)md)$/.test(path) && !path.startsWith('/usr/share/doc/'),
      ),
    ).toEqual([])
    expect(paths.filter((path) => /\/(test|tests|prebuild-install|@types)\//.test(path))).toEqual([])
    expect(paths.filter((path) => path.endsWith('.node'))).toHaveLength(2)
  })

  it('has scripts that are shell, and a configuration that is the administrator’s', async () => {
    for (const script of ['preinst', 'postinst', 'prerm', 'postrm']) {
      await runOk('/bin/sh', ['-n', join(root, 'DEBIAN', script)], { timeoutMs: 10_000 })
      expect(await readFile(join(root, 'DEBIAN', script), 'utf8')).not.toMatch(/@[A-Z]+@/)
    }
    expect(await readFile(join(root, 'DEBIAN/conffiles'), 'utf8')).toBe('/etc/sandboxerd/config.toml\n')
    const control = await readFile(join(root, 'DEBIAN/control'), 'utf8')
    expect(control).toContain(`\nVersion: ${OLDER}\n`)
    expect(control).toMatch(/^Depends: .*\blibc6 \(>= .*\bcrun \| runc, conmon, /m)
    expect(control).not.toMatch(/@[A-Z]+@/)
  })

  it('is the same whenever it is built, but for its version', async () => {
    const [before, after] = await Promise.all([older, newer].map(listing))
    const differing = ['/usr/lib/sandboxerd/package.json', '/usr/share/doc/sandboxerd/changelog.gz']
    const rest = (lines: string[] = []) => lines.filter((line) => !differing.includes(pathOf(line)))
    expect(rest(after)).toEqual(rest(before))
    const sums = async (deb: string): Promise<string[]> => {
      const { stdout } = await runOk('/bin/sh', ['-c', 'dpkg-deb --info "$1" md5sums', 'sh', deb], {
        timeoutMs: 10_000,
      })
      return stdout.split('\n').filter((line) => !differing.some((path) => line.endsWith(path.slice(1))))
    }
    expect(await sums(newer)).toEqual(await sums(older))
  })

  it('loads all of its code with its own node, wherever it lies', async () => {
    const lib = join(root, 'usr/lib/sandboxerd')
    const script = `import { readdirSync } from 'node:fs'
      const files = readdirSync('dist', { recursive: true }).filter((file) =>
        file.endsWith('.js') && !/^(main|purge|sandboxerctl)\\.js$|-thread\\.js$/.test(file))
      for (const file of files) await import(process.cwd() + '/dist/' + file)
      console.log(files.length)`
    const node = join(lib, 'bin/node')
    const options = { timeoutMs: 60_000, cwd: lib, env: { PATH: '/usr/bin:/bin' } }
    const { stdout } = await runOk(node, ['--input-type=module', '-e', script], options)
    expect(Number(stdout)).toBeGreaterThan(300)
    expect((await runOk(node, ['dist/main.js', '--version'], options)).stdout).toBe(`${OLDER}\n`)
    expect((await runOk(node, ['dist/sandboxerctl.js', '--version'], options)).stdout).toBe(`${OLDER}\n`)
  })

  it.skipIf(NO_VM !== '')(
    'comes, changes and goes while pods run, and a purge leaves nothing',
    async () => {
      const data = join(dir, 'data')
      await mkdir(join(data, 'bin'), { recursive: true })
      await cp(older, join(data, 'older.deb'))
      await cp(newer, join(data, 'newer.deb'))
      await cp(join(FIXTURES, 'pods.mjs'), join(data, 'pods.mjs'))
      await cp(join(FIXTURES, 'package.sh'), join(data, 'package.sh'))
      // The only program that the machine lacks.
      await cp('/usr/bin/containers-storage', join(data, 'bin/containers-storage'))
      const { output } = await bootVm(data, 'bash package.sh', VM_MS)
      const facts: Record<string, Record<string, string>> = {}
      for (const line of output.split('\n')) {
        const [, step, name, value] = /^(\w+) (\w+) ?(.*?) *$/.exec(line) ?? []
        if (step !== undefined && name !== undefined) (facts[step] ??= {})[name] = value ?? ''
      }
      const runs = (version = '') => ({ pauses: 'same', pods: `${version} one:READY two:READY` })
      const quiet = { dpkg: 'ok', said: '' }
      const nothing = {
        pauses: '',
        processes: '',
        files: '',
        netns: '',
        mounts: '',
        cgroups: '',
        leases: '',
        links: '',
      }
      expect(facts, output).toMatchObject({
        install: { ...quiet, active: 'inactive disabled', enabled: 'active enabled', modes: '711 711 660' },
        run: { pods: `${OLDER} one:READY two:READY`, count: '2' },
        restart: runs(OLDER),
        kill: { pid: 'new', ...runs(OLDER) },
        upgrade: { ...quiet, ...runs(NEWER) },
        downgrade: { ...quiet, ...runs(OLDER) },
        stop: { pauses: 'same' },
        remove: { dpkg: 'ok', pauses: 'same', files: '', kept: 'config.toml' },
        purge: { dpkg: 'ok', ...nothing, dpkg_state: '' },
        end: { reached: 'yes' },
      })
      expect(facts['remove']?.['said']).toMatch(/^sandboxerd: 2 pods are left as they are/)
    },
    VM_MS + 120_000,
  )
})

describe('the npm package', () => {
  it(
    'has programs that run where npm installs them, with their manual pages',
    async () => {
      const base = await mkdtemp(join(tmpdir(), 'sandboxerd-npm-'))
      try {
        const options = {
          timeoutMs: BUILD_MS,
          cwd: base,
          env: { ...environment(), npm_config_update_notifier: 'false' },
        }
        await runOk('npm', ['pack', '--silent', '--ignore-scripts', REPO], options)
        const { stdout } = await runOk('/usr/bin/find', [base, '-name', 'sandboxerd-*.tgz'], { timeoutMs: 10_000 })
        const install = ['install', '--global', '--prefix', base, '--ignore-scripts', '--prefer-offline', '--silent']
        await runOk('npm', [...install, stdout.trim()], options)
        const native = 'node_modules/better-sqlite3/build/Release/better_sqlite3.node'
        // What npm would compile.
        await cp(join(REPO, native), join(base, 'lib/node_modules/sandboxerd', native))
        const path = { ...options, env: { PATH: `${base}/bin:${process.env['PATH'] ?? ''}` } }
        expect((await run('sandboxerd', ['--print-default-config'], path)).stdout).toContain('[cri]')
        expect((await run('sandboxerctl', ['--help'], path)).stdout).toContain('Usage: sandboxerctl')
        const { stdout: files } = await runOk('/usr/bin/find', ['-L', `${base}/share/man`, '-type', 'f'], {
          timeoutMs: 10_000,
        })
        expect(files).toContain('man8/sandboxerctl.8')
      } finally {
        await rm(base, { recursive: true })
      }
    },
    2 * BUILD_MS,
  )
})
