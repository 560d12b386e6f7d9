import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it, onTestFinished } from 'vitest'
import type { RunResult } from '../../src/host/programs/outcome.ts'
import { run } from '../../src/host/programs/run.ts'
import { ownDaemons, type TestDaemon } from '../support/daemon.ts'
import { FakeSandboxer } from '../support/fake-sandboxer.ts'
import { KuasarSandboxer } from '../support/kuasar-sandboxer.ts'
import { findShim, findShimV2 } from '../support/peers.ts'

const SCRIPT = fileURLToPath(new URL('../../scripts/sandboxer-conformance.sh', import.meta.url))
const EXAMPLE = fileURLToPath(new URL('../../examples/run-sandbox.mjs', import.meta.url))
const RUNC = '/usr/sbin/runc'

const shim = findShim()
const shimV2 = findShimV2()
const startDaemon = ownDaemons()
let restarts = new AbortController()
afterEach(() => {
  restarts.abort()
  restarts = new AbortController()
})

const dirs: string[] = []
afterEach(async () => {
  for (const dir of dirs.splice(0)) await rm(dir, { recursive: true })
})

/** Short, as paths of sockets have to be. */
async function makeDir(): Promise<string> {
  const dir = await mkdtemp('/tmp/sbc-')
  dirs.push(dir)
  return dir
}

async function conformance(...args: readonly string[]): Promise<RunResult> {
  return run(SCRIPT, args, { timeoutMs: 500_000, env: { PATH: process.env['PATH'] ?? '' } })
}

async function startServing(runtimeType = shim): Promise<TestDaemon> {
  return startDaemon({
    config: {
      runtimes: { served: { runtime_type: runtimeType ?? '', runtime: RUNC } },
      sandboxer: { runtime_handler: 'served' },
    },
  })
}

/** A command that has the daemon killed and started again, and ends when that is done. */
function restartCommand(daemon: TestDaemon): string {
  const asked = join(daemon.dir, 'restart')
  const { signal } = restarts
  const serve = async (): Promise<void> => {
    while (!signal.aborted) {
      if (existsSync(asked)) {
        await daemon.restart()
        await rm(asked)
      }
      await sleep(50)
    }
  }
  void serve()
  return `: >'${asked}'; while [ -e '${asked}' ]; do sleep 0.05; done`
}

async function conforms(runtimeType: string, only: string): Promise<void> {
  const daemon = await startServing(runtimeType)
  const cgroups = ['--cgroup-parent', `${daemon.cgroupParent}/pods`]
  const runtime = ['--runtime', runtimeType, '--oci-runtime', RUNC]
  const socket = join(daemon.dir, 'sandboxer.sock')
  const all = [socket, ...cgroups, ...runtime, '--tasks', '--restart', restartCommand(daemon), '--only', only]
  const { stdout, stderr, exitCode } = await conformance(...all)
  expect(stdout.split('\n').filter((line) => /^(FAILED|skipped) /.test(line))).toEqual([])
  expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 })
  expect(stdout).toMatch(/^\d+ ok, 0 failed, 0 skipped$/m)
}

describe('the sandboxer API, served by us', () => {
  for (const [which, runtimeType, only] of [
    ['of containerd 2', shim, ''],
    ['of containerd 1, whose containers are announced', shimV2, 'contain'],
  ] as const) {
    it.skipIf(runtimeType === undefined)(`conforms with the shim ${which}`, () => conforms(runtimeType ?? '', only))
  }

  it.skipIf(shim === undefined)('runs the example', async () => {
    const daemon = await startServing()
    const args = [EXAMPLE, join(daemon.dir, 'sandboxer.sock'), '0.2']
    const { stdout, stderr, exitCode } = await run(process.execPath, args, { timeoutMs: 60_000 })
    expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 })
    expect(stdout).toMatch(/^started \{\n {2}pid: \d+,/)
    expect(stdout).toContain("address: 'ttrpc+unix:///")
    expect(stdout).toContain("os: 'linux'")
    expect(stdout).toMatch(/cpuNs: \d+n/)
    expect(stdout).toMatch(/ended \{ exitStatus: \d+, exitedAtNs: \d+n \}/)
  })
})

describe.skipIf(shim === undefined)('a sandboxer like those of Kuasar', () => {
  it('conforms in what a sandboxer of version 2 can, with containers that are announced', async () => {
    const dir = await makeDir()
    const searchPath = '/usr/sbin:/usr/bin:/sbin:/bin'
    await using sandboxer = await KuasarSandboxer.start({ dir, shim: shim ?? '', searchPath, eventsAddress: '' })
    const checks =
      'lives|iSulad|Update|^Wait (stays|answers)|waits|many|container runs|mounted already|that runs: State|Task.Shutdown'
    const { stdout, exitCode } = await conformance(sandboxer.socketPath, '--tasks', '--many', '5', '--only', checks)
    expect(stdout.split('\n').filter((line) => line.startsWith('FAILED'))).toEqual([])
    expect(exitCode).toBe(0)
    expect(sandboxer.sandboxes.size).toBe(0)
  })
})

describe('sandboxer-conformance.sh', () => {
  it('says what fails and why, and leaves nothing', async () => {
    const dir = await makeDir()
    await using sandboxer = await FakeSandboxer.start(join(dir, 's.sock'))
    const netns = await names('/run/netns')
    const { exitCode, stdout } = await conformance(sandboxer.socketPath, '--only', 'lives|nobody knows|restart|Status')
    expect(exitCode).toBe(1)
    expect(stdout).toMatch(/^ok {7}a sandbox lives: /m)
    expect(stdout).toMatch(
      /^FAILED {3}ids that nobody knows: Stop and Shutdown succeed: Stop answers NotFound, not OK$/m,
    )
    expect(stdout).toMatch(/^skipped {2}a restart: .*: no --restart$/m)
    expect(stdout).toMatch(/^\d+ ok, \d+ failed, \d+ skipped$/m)
    expect(sandboxer.sandboxes.size).toBe(0)
    expect((await names('/run/netns')).filter((name) => !netns.includes(name) && name.startsWith('sbx-'))).toEqual([])
  })

  it('goes on with the next check, also when a Wait fails that nobody has asked after yet', async () => {
    const dir = await makeDir()
    await using sandboxer = await FakeSandboxer.start(join(dir, 's.sock'))
    sandboxer.failNext('Wait', status.INTERNAL)
    const { stdout, stderr } = await conformance(sandboxer.socketPath, '--only', 'Wait answers at once|Platform is')
    expect(stderr).toBe('')
    expect(stdout).toMatch(/^FAILED {3}Wait answers at once .*fake INTERNAL/m)
    expect(stdout).toMatch(/^1 ok, 1 failed, 0 skipped$/m)
  })

  it('names its checks', async () => {
    const { stdout } = await conformance('--list', '--only', 'Wait')
    expect(stdout).toContain('Wait stays open')
    expect(stdout).not.toContain('Platform')
  })

  it('does not take somebody who accepts and says nothing for a sandboxer', async () => {
    const path = join(await makeDir(), 'mute.sock')
    const server = createServer((socket) => void socket.resume())
    await once(server.listen(path), 'listening')
    onTestFinished(() => void server.close())
    const { exitCode, stdout, stderr } = await conformance(path, '--timeout', '1', '--only', 'lives')
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' })
    expect(stderr).toMatch(/nobody answers at/)
  })

  it.each([
    ['no address', [], /which sandboxer\?/],
    ['an option that there is not', ['/s.sock', '--sideways'], /--sideways/],
    ['a number that is none', ['/s.sock', '--many', 'x'], /--many: x is not a number/],
    ['somebody who is not there', ['/no/such.sock', '--only', 'lives'], /nobody answers at/],
    ['a check that there is not', ['/s.sock', '--only', 'Frobnicate'], /no check is called so/],
  ])('refuses %s', async (_, args, why) => {
    const { exitCode, stderr } = await conformance(...args)
    expect(exitCode).toBe(2)
    expect(stderr).toMatch(why)
  })
})

async function names(dir: string): Promise<string[]> {
  return existsSync(dir) ? readdir(dir) : []
}
