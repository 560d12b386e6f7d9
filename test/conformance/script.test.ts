import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { run } from '../../src/host/programs/run.ts'
import { sharedDaemon } from '../support/daemon.ts'

const SCRIPT = fileURLToPath(new URL('../../scripts/conformance.sh', import.meta.url))

/** Says its version, notes what it was asked for, and leaves a report that was made before. */
const CRITEST = `#!/bin/sh
if [ "$1" = --version ]; then echo 'critest version: 1.2.3'; exit; fi
dir=$(dirname "$0")
echo "$*" >>"$dir/args"
for arg; do case $arg in --ginkgo.json-report=*) cp "$dir/report.json" "\${arg#*=}" ;; esac; done
exit 1
`

interface Spec {
  readonly of: readonly string[]
  readonly leaf: string
  readonly state: string
  readonly why?: string
}

const PASSED: Spec = { of: ['[k8s.io] Container', 'runtime should'], leaf: 'start', state: 'passed' }
const SKIPPED: Spec = { of: ['[k8s.io] AppArmor'], leaf: 'enforce', state: 'skipped', why: 'AppArmor is disabled' }
const FAILED: Spec = { of: ['[k8s.io] Image'], leaf: 'pull', state: 'failed', why: 'Expected\n    <int>: 1\nto be 0' }
const BENCHMARK: Spec = { of: ['[k8s.io] Container', 'benchmark about start'], leaf: 'start', state: 'skipped' }

describe('scripts/conformance.sh', () => {
  const daemon = sharedDaemon()
  const bin = (): string => join(daemon().dir, 'critest-bin')

  beforeAll(async () => {
    await mkdir(bin())
    await symlink(process.execPath, join(bin(), 'node'))
  })

  async function conformance(specs: readonly Spec[], ...args: readonly string[]) {
    await writeFile(join(bin(), 'critest'), CRITEST, { mode: 0o755 })
    await writeFile(join(bin(), 'args'), '')
    const SpecReports = specs.map(({ of, leaf, state, why }) => ({
      ContainerHierarchyTexts: of,
      LeafNodeType: 'It',
      LeafNodeText: leaf,
      State: state,
      ...(why === undefined ? {} : { Failure: { Message: why } }),
    }))
    const SuiteSucceeded = specs.every(({ state }) => state !== 'failed')
    const suite = { StartTime: '2026-01-02T03:04:05Z', RunTime: 61e9, SuiteSucceeded, SpecReports }
    await writeFile(join(bin(), 'report.json'), JSON.stringify([suite]))
    const endpoint = `unix://${join(daemon().dir, 'cri.sock')}`
    const command = [`--net=/run/netns/${daemon().node}`, SCRIPT, '--endpoint', endpoint, ...args]
    const env = { PATH: `${bin()}:/usr/bin:/bin`, TMPDIR: daemon().dir }
    return run('/usr/bin/nsenter', command, { timeoutMs: 60_000, env })
  }

  it('says what came of every spec, and writes it down', async () => {
    const output = join(daemon().dir, 'out.md')
    const handlers = ['--handler', 'crun,runc-pinned', '--output', output]
    const { exitCode, stdout, stderr } = await conformance([PASSED, SKIPPED, BENCHMARK], ...handlers)
    expect(exitCode, stderr).toBe(0)
    expect(stdout).toMatch(/^ +crun +crun version \S+ +shim +1 +1 +0 +2 +61 s$/m)
    expect(stdout).toMatch(/^ +runc-pinned +runc version \S+ +pinned +1 +1 +0 +2 +61 s$/m)
    expect(stdout).toMatch(/^ +Container +1 of 1, 1 skipped +1 of 1, 1 skipped$/m)
    expect(stdout).toMatch(/^ +AppArmor \/ enforce +all +AppArmor is disabled$/m)
    expect(stdout).toMatch(/^ +Container \/ benchmark about start \/ start +all +a benchmark$/m)
    expect(stderr).toContain('the only client')
    const document = await readFile(output, 'utf8')
    expect(document).toMatch(/^\| date \| 2026-01-02 \|$/m)
    expect(document).toMatch(/^\| critest \| 1\.2\.3 \|$/m)
    expect(document).toMatch(/^\| Container \| 1 of 1, 1 skipped \| 1 of 1, 1 skipped \|$/m)
    expect(document).not.toContain('## Failed')
    const asked = (await readFile(join(bin(), 'args'), 'utf8')).trim().split('\n')
    expect(asked.map((line) => /--runtime-handler=(\S+)/.exec(line)?.[1])).toEqual(['crun', 'runc-pinned'])
  })

  it('fails when a spec does, with why in a line', async () => {
    const { exitCode, stdout, stderr } = await conformance([PASSED, FAILED])
    expect(exitCode).toBe(1)
    expect(stdout).toMatch(/^ +Image \/ pull +all +Expected <int>: 1 to be 0$/m)
    expect(stderr).toContain('1 spec has failed')
  })

  it('fails when no spec has run', async () => {
    const { exitCode, stderr } = await conformance([SKIPPED])
    expect(exitCode).toBe(1)
    expect(stderr).toContain('no spec has run with handler crun')
  })

  it('passes on what is to be tested', async () => {
    await conformance([PASSED], '--focus', 'a b', '--websocket')
    const asked = await readFile(join(bin(), 'args'), 'utf8')
    expect(asked).toContain('--websocket-exec --websocket-attach --websocket-portforward')
    expect(asked).toContain('--ginkgo.focus=a b')
  })

  it.each([
    [
      'a handler that the daemon has not',
      ['--handler', 'kata'],
      /has no handler kata, but crun, crun-pinned, .*runc, runc-pinned/,
    ],
    ['an option that is none', ['--sideways'], /no option --sideways/],
    ['images that are none', ['--images', '/no/such/file'], /\/no\/such\/file/],
  ])('refuses %s', async (_, args, why) => {
    const { exitCode, stderr } = await conformance([PASSED], ...args)
    expect(exitCode).toBe(1)
    expect(stderr).toMatch(why)
  })

  it('says where critest is to be had', async () => {
    const inNode = [`--net=/run/netns/${daemon().node}`, SCRIPT]
    const env = { PATH: `${bin()}:/usr/bin:/bin` }
    await rm(join(bin(), 'critest'), { force: true })
    const { exitCode, stderr } = await run('/usr/bin/nsenter', inNode, { timeoutMs: 60_000, env })
    expect(exitCode).toBe(1)
    expect(stderr).toContain('https://github.com/kubernetes-sigs/cri-tools/releases')
  })

  it('does not begin while somebody uses the daemon, unless it is told to', async () => {
    await daemon().run(daemon().hostPod())
    const { exitCode, stderr } = await conformance([PASSED])
    expect(exitCode).toBe(1)
    expect(stderr).toContain('the daemon has pods (1)')
    expect((await conformance([PASSED], '--force')).exitCode).toBe(0)
  })
})
