import { describe, expect, it } from 'vitest'
import { monitorArguments } from '../../../src/executor/monitor.ts'
import type { ContainerIo } from '../../../src/executor/types.ts'

const IO: ContainerIo = { terminal: false, stdin: false, stdinOnce: false, logPath: '', logMaxBytes: 0 }

/** What the monitor is to run, with its own options. */
function command(io: Partial<ContainerIo>, hasUserns: boolean): string[] {
  const record = {
    id: 'ab'.repeat(32),
    runtime: { path: '/usr/bin/crun', root: '/run/x', systemdCgroup: true },
    bundleDir: '/b',
    cgroupsPath: '/c',
    ownedCgroupParents: [],
    hasUserns,
  }
  const args = monitorArguments(record, '/exits', { ...IO, ...io })
  return args.slice(args.indexOf('--runtime') + 1)
}

describe('the runtime of a container', () => {
  it('is run by the monitor itself', () => {
    expect(command({}, false)).toEqual(['/usr/bin/crun', '--runtime-arg', '--root=/run/x', '--systemd-cgroup'])
  })

  it.each([
    [{}, ': | "$0" "$@"'],
    [{ stdin: true }, '"$0" "$@"'],
    [{ terminal: true }, ': | "$0" "$@" >&2'],
    [{ terminal: true, stdin: true }, ': | "$0" "$@" >&2'],
  ])('in a user namespace never has the node’s /dev/null: %j', (io, script) => {
    const args = ['-c', script, '/usr/bin/crun', '--root=/run/x', '--systemd-cgroup']
    expect(command(io, true)).toEqual(['/bin/sh', ...args.flatMap((arg) => ['--runtime-arg', arg])])
  })
})
