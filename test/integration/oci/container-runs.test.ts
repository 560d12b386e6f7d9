import { existsSync } from 'node:fs'
import { copyFile, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { planDevices } from '../../../src/container/devices.ts'
import { readCgroupMode } from '../../../src/host/cgroup/cgroup-mode.ts'
import { lookUpHostPaths } from '../../../src/host/host-paths.ts'
import { run, runOk } from '../../../src/host/programs/run.ts'
import { readHostSecurity } from '../../../src/host/security.ts'
import { cgroupsPath } from '../../../src/oci/cgroups-path.ts'
import { containerCapabilities } from '../../../src/oci/container-capabilities.ts'
import type { ContainerSpecInput } from '../../../src/oci/container-input.ts'
import { containerOomScoreAdj } from '../../../src/oci/container-process.ts'
import { containerResources } from '../../../src/oci/container-resources.ts'
import { containerSpec } from '../../../src/oci/container-spec.ts'
import { resolveUser } from '../../../src/oci/container-user.ts'
import { ociJson } from '../../../src/oci/json.ts'
import { NEW_NAMESPACE } from '../../../src/oci/namespaces.ts'
import { pauseSpec } from '../../../src/oci/pause-spec.ts'
import { seccompFilter } from '../../../src/oci/seccomp.ts'
import { parseSeccompProfile } from '../../../src/oci/seccomp-profile.ts'
import type { Mount } from '../../../src/oci/spec.ts'
import {
  containerConfig,
  containerContext,
  containerInput,
  containerWith,
  privilegedInput,
} from '../../unit/oci/container-fixtures.ts'
import { pauseInput, resources } from '../../unit/oci/fixtures.ts'
import { CGROUP_PARENT, type PauseBench, pauseBench, processStatus, runtimeArgs, whyNot } from './runtime.ts'

const BUSYBOX = '/bin/busybox'
/** One that no container has unless it asks, and that does nothing when it is opened. */
const DEVICE = '/dev/loop-control'
const SECCOMP_PROFILE = '/usr/share/containers/seccomp.json'
const host = readHostSecurity()
const cgroupMode = readCgroupMode()
let bench: PauseBench
let rootfs: string
let counter = 0

beforeAll(async () => {
  bench = await pauseBench()
  rootfs = join(bench.dir, 'busybox')
  await mkdir(join(rootfs, 'bin'), { recursive: true })
  await copyFile(BUSYBOX, join(rootfs, 'bin/busybox'))
  for (const name of ['sh', 'sleep', 'cat', 'ls', 'hostname', 'id', 'env', 'pwd', 'dd', 'touch']) {
    await symlink('busybox', join(rootfs, 'bin', name))
  }
})
afterAll(async () => {
  await bench[Symbol.asyncDispose]()
  expect(existsSync(bench.dir)).toBe(false)
})

const whyNotHere = (runtime: string) => whyNot(runtime) ?? (existsSync(BUSYBOX) ? undefined : `${BUSYBOX} is missing`)
const bind = (destination: string, source: string, ...options: string[]): Mount => ({
  destination,
  type: 'bind',
  source,
  options: ['rbind', 'rprivate', ...options],
})

describe.each(['/usr/bin/crun', '/usr/sbin/runc'])('a container under %s', (runtime) => {
  const why = whyNotHere(runtime)
  if (why !== undefined) it.skip(`is not tested: ${why}`)

  interface Running {
    readonly id: string
    readonly pid: number
    readonly podPid: number
    /** What the script wrote to its standard output. */
    readonly output: string
    readonly status: Map<string, string>
  }

  /** Runs a script in a container of a pod of its own, and looks at it while it sleeps. */
  async function runs(
    script: string,
    input: ContainerSpecInput,
    look: (running: Running) => Promise<void> | void,
  ): Promise<void> {
    counter += 1
    const id = `test-oci-c-${process.pid}-${counter}`
    const pod = await makePodFiles(id)
    const paths = { cgroupMode, allowedCapabilities: host.boundingCapabilities }
    const pauseConfig = pauseInput({
      ...paths,
      config: input.podConfig,
      id: `${id}-pod`,
      rootfsPath: bench.rootfs,
      namespaces: { netPath: NEW_NAMESPACE },
      cgroupsPath: cgroupsPath({ driver: 'cgroupfs', cgroupParent: CGROUP_PARENT, id: `${id}-pod` }),
      oomScoreAdj: host.oomScoreAdj,
    })
    await bench.withPause(runtime, `${id}-pod`, pauseSpec(pauseConfig), async (podPid) => {
      const ns = (type: string): string => `/proc/${podPid}/ns/${type}`
      const spec = containerSpec({
        ...input,
        ...paths,
        config: { ...input.config, command: ['/bin/sh', '-c', `(${script}) >/out/log 2>&1; exec sleep 1000`] },
        rootfsPath: rootfs,
        cgroupsPath: cgroupsPath({ driver: 'cgroupfs', cgroupParent: CGROUP_PARENT, id }),
        namespaces: { net: ns('net'), ipc: ns('ipc'), uts: ns('uts'), pid: ns('pid'), user: null },
        podFiles: pod.files,
        mounts: [bind('/out', pod.out, 'rw'), ...input.mounts],
        oomScoreAdj: containerOomScoreAdj(input.config, host),
      })
      await bench.withContainer(runtime, id, spec, 'sleep', async (pid) => {
        const output = await readFile(join(pod.out, 'log'), 'utf8')
        await look({ id, pid, podPid, output, status: await processStatus(pid) })
      })
    })
  }

  async function makePodFiles(id: string) {
    const dir = join(bench.dir, `${id}-files`)
    const files = {
      hostname: join(dir, 'h'),
      hosts: join(dir, 'hosts'),
      resolvConf: join(dir, 'r'),
      shm: join(dir, 'shm'),
    }
    const out = join(dir, 'out')
    for (const path of [files.shm, out]) await mkdir(path, { recursive: true, mode: 0o777 })
    await runOk('/bin/chmod', ['777', out], { timeoutMs: 10_000 })
    await writeFile(files.hostname, 'web\n')
    await writeFile(files.hosts, '127.0.0.1 from-the-pod\n')
    await writeFile(files.resolvConf, 'nameserver 10.0.0.10\n')
    return { files, out }
  }

  it.skipIf(why)('joins the namespaces of its pod and sees its files', async () => {
    const script = 'hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf; touch /dev/shm/x && ls /dev/shm'
    await runs(script, containerInput(), async ({ output, pid, podPid }) => {
      expect(output).toBe('web\nweb\n127.0.0.1 from-the-pod\nnameserver 10.0.0.10\nx\n')
      for (const type of ['net', 'ipc', 'uts', 'pid']) {
        const links = [pid, podPid].map((each) =>
          runOk('/bin/readlink', [`/proc/${each}/ns/${type}`], { timeoutMs: 5000 }),
        )
        const [own, pods] = await Promise.all(links)
        expect([type, own?.stdout]).toEqual([type, pods?.stdout])
      }
    })
  })

  it.skipIf(why)('has the default capabilities and nothing that its programs inherit', async () => {
    await runs('true', containerInput(), ({ status }) => {
      const { bounding } = containerCapabilities(null, host.boundingCapabilities)
      const bits = BigInt(`0x${status.get('CapBnd')}`)
        .toString(2)
        .replaceAll('0', '')
      expect(bits).toHaveLength(bounding.length)
      for (const set of ['CapEff', 'CapPrm']) expect(status.get(set)).toBe(status.get('CapBnd'))
      for (const set of ['CapInh', 'CapAmb']) expect([set, status.get(set)]).toEqual([set, '0'.repeat(16)])
    })
  })

  it.skipIf(why)('has no descriptor of the runtime, and a node that it cannot change', async () => {
    const script = 'ls /proc/self/fd; touch /sys/x || touch /proc/sys/x || cat /proc/kcore | dd bs=1 count=1 | ls'
    await runs(script, containerInput(), ({ output }) => {
      expect(output.split('\n').slice(0, 4)).toEqual(['0', '1', '2', '3'])
      expect(output).toContain('/sys/x: Read-only')
      expect(output).toContain('/proc/sys/x: ')
    })
  })

  it.skipIf(why)('has the environment and working directory that were asked for, made when missing', async () => {
    const config = containerConfig({
      working_dir: '/new/dir',
      envs: [{ key: 'GIVEN', value: Buffer.from('two\nlines') }],
    })
    const image = { ...containerInput().image, env: ['GIVEN=no', 'IMAGE=yes'] }
    await runs('pwd; env', containerInput({ config, image }), ({ output }) => {
      expect(output).toMatch(/^\/new\/dir\n/)
      for (const text of ['GIVEN=two\nlines\n', 'IMAGE=yes\n', 'HOSTNAME=web\n', 'PATH=/usr/local/sbin:']) {
        expect(output).toContain(text)
      }
    })
  })

  it.skipIf(why)('runs as the user of its files, without privileges, behind a filter', async () => {
    const passwd = 'www:x:33:34::/:\n'
    const context = containerContext({ no_new_privs: true, supplemental_groups: ['4000'] })
    const user = resolveUser({ securityContext: context, imageUser: 'www' }, { passwd, group: 'g:x:27:www\n' })
    const profile = existsSync(SECCOMP_PROFILE) ? await readFile(SECCOMP_PROFILE, 'utf8') : undefined
    const { bounding } = containerCapabilities(null, host.boundingCapabilities)
    const seccomp =
      profile === undefined
        ? null
        : seccompFilter(parseSeccompProfile(profile, SECCOMP_PROFILE), { ...host, capabilities: bounding })
    const input = containerWith({ no_new_privs: true }, { user, seccomp })
    await runs('id', input, ({ output, status }) => {
      expect(output).toContain('uid=33 gid=34 groups=27,34,4000')
      expect(status.get('CapEff')).toBe('0'.repeat(16))
      expect(status.get('NoNewPrivs')).toBe('1')
      expect(status.get('Seccomp')).toBe(profile === undefined ? '0' : '2')
    })
  })

  it.skipIf(why)('passes ambient capabilities on to a user without privileges', async () => {
    const names = { add_capabilities: [], drop_capabilities: ['ALL'], add_ambient_capabilities: ['NET_BIND_SERVICE'] }
    const user = { uid: 33, gid: 33, additionalGids: [33] }
    await runs('true', containerWith({ capabilities: names }, { user }), ({ status }) => {
      const mask = (1n << 10n).toString(16).padStart(16, '0')
      for (const set of ['CapBnd', 'CapEff', 'CapInh', 'CapAmb']) expect([set, status.get(set)]).toEqual([set, mask])
    })
  })

  it.skipIf(why)('mounts what lies deeper later, read-only where asked, with a read-only root', async () => {
    const outer = join(bench.dir, `outer-${counter}`)
    const inner = join(bench.dir, `inner-${counter}`)
    for (const dir of [join(outer, 'in'), inner]) await mkdir(dir, { recursive: true })
    await writeFile(join(inner, 'file'), 'inner\n')
    const mounts = [bind('/vol/in', inner, 'rro', 'noexec'), bind('/vol', outer, 'rw')]
    const script = 'cat /vol/in/file; touch /vol/ok && ls /vol; touch /vol/in/no; touch /no'
    await mkdir(join(rootfs, 'vol'), { recursive: true })
    await mkdir(join(rootfs, 'out'), { recursive: true })
    await runs(script, containerWith({ readonly_rootfs: true }, { mounts }), ({ output }) => {
      expect(output).toMatch(/^inner\nin\nok\n/)
      expect(output).toContain('/vol/in/no: Read-only')
      expect(output).toContain('/no: Read-only')
    })
  })

  it.skipIf(why !== undefined || !existsSync(DEVICE))('uses its devices as far as it may', async () => {
    const device = { host_path: DEVICE, container_path: '/dev/given', permissions: 'r' }
    const config = containerConfig({ devices: [device] })
    const devices = await planDevices(config, { hostPaths: (all) => lookUpHostPaths(all, run) })
    const script = '(: </dev/given) && echo reads; (: >/dev/given) || ls /dev/given /dev/loop-control'
    await runs(script, containerInput({ config, devices }), ({ output }) => {
      expect(output).toMatch(/^reads\n/)
      expect(output).toContain('/dev/given: Operation not permitted')
      expect(output).toContain('/dev/loop-control: No such file')
    })
  })

  it.skipIf(why)('has the node’s devices and all that the daemon has when privileged', async () => {
    const own = (await processStatus(process.pid)).get('CapBnd')
    const input = privilegedInput()
    const devices = await planDevices(input.config, { hostPaths: (all) => lookUpHostPaths(all, run) })
    const nodes = (await readdir('/dev', { withFileTypes: true })).filter((entry) => entry.isCharacterDevice())
    const script = 'ls /dev; touch /sys/x'
    await runs(script, { ...input, devices }, ({ output, status }) => {
      for (const set of ['CapBnd', 'CapEff', 'CapPrm']) expect([set, status.get(set)]).toEqual([set, own])
      expect(output.split('\n')).toEqual(
        expect.arrayContaining(nodes.map(({ name }) => name).filter((name) => name !== 'console')),
      )
      expect(output).not.toContain('/sys/x: Read-only')
    })
  })

  it.skipIf(why)('is limited, and limited anew', async () => {
    const given = resources({ cpu_shares: '512', memory_limit_in_bytes: '67108864' })
    const limits = { hugepageSizes: [], hasSwapAccounting: swapFile('').every((path) => existsSync(path)) }
    await runs('true', containerWith({}, { limits }, given), async ({ id, pid }) => {
      const memory = async () => (await readFile(await limitFile(pid), 'utf8')).trim()
      expect(await memory()).toBe('67108864')
      const raised = resources({ memory_limit_in_bytes: '134217728' })
      const file = join(bench.dir, `${id}.json`)
      await writeFile(file, ociJson(containerResources(raised, { field: 'linux', cgroupMode, limits })))
      await runOk(runtime, runtimeArgs(bench.dir, runtime, ['update', '--resources', file, id]), { timeoutMs: 10_000 })
      expect(await memory()).toBe('134217728')
    })
  })
})

function swapFile(path: string): string[] {
  return cgroupMode === 'v2' ? [] : [`/sys/fs/cgroup/memory${path}/memory.memsw.limit_in_bytes`]
}

async function limitFile(pid: number): Promise<string> {
  const path = /^[0-9]+:(?:memory)?:(.*)$/m.exec(await readFile(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? ''
  return cgroupMode === 'v2' ? `/sys/fs/cgroup${path}/memory.max` : `/sys/fs/cgroup/memory${path}/memory.limit_in_bytes`
}
