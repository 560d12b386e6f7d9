import { existsSync } from 'node:fs'
import { readFile, readdir, readlink } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readCgroupMode } from '../../../src/host/cgroup/cgroup-mode.ts'
import { runOk } from '../../../src/host/programs/run.ts'
import { readHostSecurity } from '../../../src/host/security.ts'
import { cgroupsPath } from '../../../src/oci/cgroups-path.ts'
import { NEW_NAMESPACE } from '../../../src/oci/namespaces.ts'
import { clampOomScoreAdj, SANDBOX_OOM_SCORE_ADJ } from '../../../src/oci/oom-score.ts'
import { type PauseSpecInput, pauseSpec } from '../../../src/oci/pause-spec.ts'
import { MASKED_PATHS } from '../../../src/oci/process-security.ts'
import { seccompFilter } from '../../../src/oci/seccomp.ts'
import { parseSeccompProfile } from '../../../src/oci/seccomp-profile.ts'
import {
  inputWith,
  linuxConfig,
  namespaceOptions,
  pauseInput,
  resources,
  sandboxConfig,
} from '../../unit/oci/fixtures.ts'
import { CGROUP_PARENT, type PauseBench, pauseBench, processStatus, whyNot } from './runtime.ts'

const SECCOMP_PROFILE = '/usr/share/containers/seccomp.json'
const NO_CAPABILITIES = '0'.repeat(16)

const host = readHostSecurity()
const oomScoreAdj = clampOomScoreAdj(SANDBOX_OOM_SCORE_ADJ, host.oomScoreAdj, host.hasSysResource)
let bench: PauseBench
let counter = 0

beforeAll(async () => {
  bench = await pauseBench()
})
afterAll(async () => {
  await bench[Symbol.asyncDispose]()
  expect(existsSync(bench.dir)).toBe(false)
})

describe.each(['/usr/bin/crun', '/usr/sbin/runc'])('a pause process under %s', (runtime) => {
  const why = whyNot(runtime)
  if (why !== undefined) it.skip(`is not tested: ${why}`)

  async function runs(input: PauseSpecInput, look: (pid: number, status: Map<string, string>) => Promise<void>) {
    counter += 1
    const id = `test-oci-${process.pid}-${counter}`
    const spec = pauseSpec({
      ...input,
      id,
      rootfsPath: bench.rootfs,
      cgroupsPath: cgroupsPath({ driver: 'cgroupfs', cgroupParent: CGROUP_PARENT, id }),
      cgroupMode: readCgroupMode(),
      oomScoreAdj,
      allowedCapabilities: host.boundingCapabilities,
    })
    await bench.withPause(runtime, id, spec, async (pid) => {
      const status = await processStatus(pid)
      await look(pid, status)
    })
    // Shared by all pods: whatever a runtime leaves there, the next pod gets.
    expect(await readdir(`${bench.rootfs}/dev`)).toEqual([])
  }
  const newNetwork = { namespaces: { netPath: NEW_NAMESPACE } }
  const ownNamespace = async (pid: number, type: string): Promise<boolean> =>
    (await readlink(`/proc/${pid}/ns/${type}`)) !== (await readlink(`/proc/self/ns/${type}`))

  it.skipIf(why)('has namespaces of its own and no privileges', async () => {
    await runs(pauseInput(newNetwork), async (pid, status) => {
      for (const type of ['pid', 'net', 'ipc', 'uts', 'mnt']) expect(await ownNamespace(pid, type)).toBe(true)
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
        expect([set, status.get(set)]).toEqual([set, NO_CAPABILITIES])
      }
      expect(status.get('NoNewPrivs')).toBe('1')
      expect(status.get('Uid')).toBe('0 0 0 0')
      expect(status.get('Groups')).toBe('0')
      expect(status.get('NSpid')).toMatch(/ 1$/)
      expect((await readFile(`/proc/${pid}/oom_score_adj`, 'utf8')).trim()).toBe(String(oomScoreAdj))
      expect(await readFile(`/proc/${pid}/cgroup`, 'utf8')).toContain(CGROUP_PARENT)
    })
  })

  it.skipIf(why)('sees a read-only root, a masked /proc, and nothing more than that and /dev', async () => {
    await runs(pauseInput(newNetwork), async (pid) => {
      const mounts = (await readFile(`/proc/${pid}/mountinfo`, 'utf8')).trim().split('\n')
      const points = mounts.map((line) => line.split(' '))
      expect(points.find((fields) => fields[4] === '/')?.[5]).toMatch(/^ro\b/)
      expect(points.find((fields) => fields[4] === '/proc/sys')?.[5]).toMatch(/^ro\b/)
      const masked = MASKED_PATHS.filter((path) => path.startsWith('/proc') && existsSync(path))
      expect(masked).toContain('/proc/interrupts')
      expect(points.map((fields) => fields[4])).toEqual(expect.arrayContaining(masked))
      const outside = points.map((fields) => fields[4] ?? '').filter((point) => !point.startsWith('/proc'))
      expect(outside.sort()).toEqual(['/', '/dev'])
    })
  })

  it.skipIf(why)('keeps the network and host name of the node in a host-network pod', async () => {
    const input = inputWith(
      { namespace_options: namespaceOptions({ network: 'NODE' }) },
      { namespaces: { netPath: null } },
    )
    await runs(input, async (pid) => {
      expect(await ownNamespace(pid, 'net')).toBe(false)
      expect(await ownNamespace(pid, 'uts')).toBe(false)
      expect(await ownNamespace(pid, 'ipc')).toBe(true)
    })
  })

  it.skipIf(why)('keeps the pid and IPC namespace of the node when asked to', async () => {
    const options = namespaceOptions({ pid: 'NODE', ipc: 'NODE' })
    await runs(inputWith({ namespace_options: options }, newNetwork), async (pid) => {
      expect(await ownNamespace(pid, 'pid')).toBe(false)
      expect(await ownNamespace(pid, 'ipc')).toBe(false)
    })
  })

  it.skipIf(why)('sets the sysctls of its namespaces', async () => {
    const sysctls = { 'net.ipv4.ip_unprivileged_port_start': '0', 'kernel/shm_rmid_forced': '1' }
    const config = sandboxConfig({ linux: linuxConfig({ sysctls }) })
    await runs(pauseInput({ ...newNetwork, config }), async (pid) => {
      const files = ['net/ipv4/ip_unprivileged_port_start', 'kernel/shm_rmid_forced'].map((name) => `/proc/sys/${name}`)
      const enter = ['--target', String(pid), '--net', '--ipc', 'cat', ...files]
      expect((await runOk('/usr/bin/nsenter', enter, { timeoutMs: 10_000 })).stdout).toBe('0\n1\n')
    })
  })

  it.skipIf(why)('has all that the daemon has, and no more, when privileged', async () => {
    const own = (await processStatus(process.pid)).get('CapBnd')
    await runs(inputWith({ privileged: true }, newNetwork), async (_pid, status) => {
      for (const set of ['CapBnd', 'CapEff', 'CapPrm']) expect([set, status.get(set)]).toEqual([set, own])
      for (const set of ['CapInh', 'CapAmb']) expect([set, status.get(set)]).toEqual([set, NO_CAPABILITIES])
      expect(status.get('NoNewPrivs')).toBe('0')
      expect(status.get('Seccomp')).toBe('0')
    })
  })

  it.skipIf(why !== undefined || !existsSync(SECCOMP_PROFILE))('runs under the default seccomp profile', async () => {
    const profile = parseSeccompProfile(await readFile(SECCOMP_PROFILE, 'utf8'), SECCOMP_PROFILE)
    const seccomp = seccompFilter(profile, { ...host, capabilities: [] })
    await runs(pauseInput({ ...newNetwork, seccomp }), async (_pid, status) => {
      expect(status.get('Seccomp')).toBe('2')
    })
  })

  it.skipIf(why)('runs as the user and groups of the pod', async () => {
    const input = inputWith(
      { run_as_user: { value: '1000' }, run_as_group: { value: '2000' }, supplemental_groups: ['3000'] },
      newNetwork,
    )
    await runs(input, async (_pid, status) => {
      expect(status.get('Uid')).toBe('1000 1000 1000 1000')
      expect(status.get('Gid')).toBe('2000 2000 2000 2000')
      expect(status.get('Groups')).toBe('2000 3000')
      expect(status.get('CapEff')).toBe(NO_CAPABILITIES)
    })
  })

  it.skipIf(why)('runs within limits that need 64 bits', async () => {
    const limits = resources({
      cpu_shares: '512',
      cpu_period: '100000',
      cpu_quota: '20000',
      memory_limit_in_bytes: '9007199254740992',
    })
    const config = sandboxConfig({ linux: linuxConfig({ resources: limits }) })
    await runs(pauseInput({ ...newNetwork, config }), async (pid) => {
      const path = /^[0-9]+:(?:memory)?:(.*)$/m.exec(await readFile(`/proc/${pid}/cgroup`, 'utf8'))?.[1]
      const file = readCgroupMode() === 'v2' ? `${path}/memory.max` : `memory${path}/memory.limit_in_bytes`
      expect((await readFile(`/sys/fs/cgroup/${file}`, 'utf8')).trim()).toBe('9007199254740992')
    })
  })

  it.skipIf(why)('takes no orders from the pod’s annotations', async () => {
    // crun, told so, would fail to connect.
    const config = sandboxConfig({ annotations: { 'run.oci.pidfd_receiver': '/nonexistent/receiver' } })
    await runs(pauseInput({ ...newNetwork, config }), async (_pid, status) => {
      expect(status.get('NoNewPrivs')).toBe('1')
    })
  })
})
