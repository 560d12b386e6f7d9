import { type ChildProcess, spawn, type SpawnOptions } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { isMonitorOf, listMonitors, monitorArguments, monitorIn } from '../../../src/executor/monitor.ts'
import type { ContainerRecord } from '../../../src/executor/types.ts'

const EXITS = '/run/sandboxerd/exits'
const record: ContainerRecord = {
  id: 'ab'.repeat(32),
  runtime: { path: '/usr/bin/crun', root: '/run/sandboxerd/runtime/crun', systemdCgroup: false },
  bundleDir: `/run/sandboxerd/sandboxes/${'ab'.repeat(32)}`,
  cgroupsPath: '/x',
  ownedCgroupParents: [],
}
const commandLine = (of: ContainerRecord): string[] => ['/usr/bin/conmon', ...monitorArguments(of, EXITS)]

/** All but /tmp, on a file system of its own. */
const OTHER_ROOT =
  'mkdir "$R"; mount -t tmpfs none "$R"; ' +
  'for d in /*; do if [ -d "$d" ] && [ "$d" != /tmp ]; then mkdir "$R$d"; mount --rbind "$d" "$R$d"; fi; done'

describe('monitorIn', () => {
  it.each([
    ['a container', record],
    ['one with cgroups of systemd', { ...record, runtime: { ...record.runtime, systemdCgroup: true } }],
    ['one in a user namespace', { ...record, hasUserns: true }],
  ])('reads from its command line what %s was made with', (_, made) => {
    const { id, bundleDir, runtime } = made
    expect(monitorIn(commandLine(made), EXITS)).toEqual({ id, bundleDir, runtime })
  })

  it.each([
    ['of another sandboxerd', commandLine(record), '/run/other/exits'],
    ['of another runtime', ['/usr/bin/conmon', '--cid', record.id, '--exit-dir', '/var/run/crio/exits'], EXITS],
    ['that is none', ['/bin/ls', '--exit-dir', EXITS, '--cid', record.id], EXITS],
    ['that has ended', [], EXITS],
    ['whose id is a path', commandLine({ ...record, id: '../../../etc/shadow' }), EXITS],
  ])('knows none %s', (_, args, exits) => {
    expect(monitorIn(args, exits)).toBeNull()
  })
})

describe.skipIf(process.getuid?.() !== 0)('listMonitors and isMonitorOf', () => {
  /** A process with the command line of a monitor; resolves, when it has it, with who finds it. */
  async function pretend(
    start: (program: string, args: readonly string[], exits: string) => ChildProcess,
  ): Promise<{ readonly listed: string[]; readonly isKnown: boolean }> {
    const exits = mkdtempSync(join(tmpdir(), 'sbx-exits-'))
    const names = ['--exit-dir', exits, '--cid', record.id, '--bundle', `${exits}/${record.id}`]
    const code = 'console.log(1); setInterval(() => {}, 1e6)'
    const child = start(process.execPath, ['-e', code, '--', ...names], exits)
    onTestFinished(() => {
      child.kill('SIGKILL')
      rmSync(exits, { recursive: true })
    })
    if (child.stdout) await once(child.stdout, 'data')
    const isKnown = isMonitorOf({ ...record, bundleDir: `${exits}/${record.id}` }, child.pid ?? 0)
    return { listed: listMonitors(exits).map(({ id }) => id), isKnown }
  }
  const options: SpawnOptions = { argv0: 'conmon', stdio: ['ignore', 'pipe', 'inherit'] }
  const NOBODY = { listed: [], isKnown: false }

  it('find ours', async () => {
    const found = await pretend((program, args) => spawn(program, args, options))
    expect(found).toEqual({ listed: [record.id], isKnown: true })
  })

  it('believe none of another user', async () => {
    expect(await pretend((program, args) => spawn(program, args, { ...options, uid: 65534 }))).toEqual(NOBODY)
  })

  it.each([
    ['something else there', 'mount -t tmpfs none "$EXITS"', ''],
    ['another root, with a link', `${OTHER_ROOT}; ln -s /tmp "$R/tmp"`, 'chroot "$R"'],
  ])('believe none that has %s, such as one in a container with the same paths', async (_, prepare, enter) => {
    const nested = (program: string, args: readonly string[], exits: string): ChildProcess => {
      const script = `set -e; R=$EXITS/root; ${prepare}; exec ${enter} /bin/bash -c 'exec -a conmon "$0" "$@"' "$0" "$@"`
      const env = { ...process.env, EXITS: exits }
      return spawn('/usr/bin/unshare', ['--mount', '/bin/bash', '-c', script, program, ...args], {
        ...options,
        argv0: 'unshare',
        env,
      })
    }
    expect(await pretend(nested)).toEqual(NOBODY)
  })
})
