import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { containing } from '../../support/cni-plugins/containing.ts'
import { SHIM_HANDLERS, sharedDaemon } from '../../support/daemon.ts'
import { busyboxLayer } from '../../support/images.ts'
import { processFacts } from '../../support/pod-facts.ts'
import { type ContainerPart, TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

const pod = (handler = 'crun-pinned'): Promise<TestPod> => TestPod.run(daemon(), handler)

describe('the command of a container', () => {
  const config = { Entrypoint: ['/bin/echo', 'entry'], Cmd: ['cmd', '1'] }
  it.each<{ part: ContainerPart; printed: string }>([
    { part: {}, printed: 'entry cmd 1' },
    { part: { args: ['arg', '2'] }, printed: 'entry arg 2' },
    { part: { command: ['/bin/echo', 'command'] }, printed: 'command' },
    { part: { command: ['/bin/echo', 'command'], args: ['arg'] }, printed: 'command arg' },
  ])('is made of image and request: $part', async ({ part, printed }) => {
    const image = await daemon().pull({ name: 'with-command', config })
    const own = await pod()
    const id = await own.create({ image: { image }, ...part })
    await daemon().client.containers.start(id)
    expect((await own.ended(id)).stdout).toBe(`${printed}\n`)
  })

  it('must be there', async () => {
    const image = await daemon().pull({ name: 'without-command', config: { Env: [] } })
    const own = await pod()
    await expect(own.create({ image: { image } })).rejects.toMatchObject({ details: containing('command') })
  })
})

describe('the environment of a container', () => {
  it('is that of the image under that of the request', async () => {
    const image = await daemon().pull({
      name: 'with-env',
      config: { Env: ['PATH=/bin', 'A=image', 'B=image'], WorkingDir: '/home/web' },
    })
    const own = await pod()
    const env = { B: 'request', C: 'with = and\nnewline', EMPTY: '' }
    const printed = await own.prints('echo "$A|$B|$C|${EMPTY-unset}|$PATH|$HOME|$(pwd)"', { image: { image }, env })
    expect(printed).toBe('image|request|with = and\nnewline||/bin|/root|/home/web')
  })

  it('has the working directory of the request, which is made where it is missing', async () => {
    const own = await pod()
    expect(await own.prints('pwd', { working_dir: '/made/for/me' })).toBe('/made/for/me')
  })
})

describe.each(['crun-pinned', 'runc-pinned', ...SHIM_HANDLERS])('the user of a container on %s', (handler) => {
  const who = 'echo "$(id -u):$(id -g) $(id -G)"'
  it.each<{ name: string; user?: string; part: ContainerPart; is: string }>([
    { name: 'root', part: {}, is: '0:0 0' },
    { name: 'root by number', part: { security: { run_as_user: { value: '0' } } }, is: '0:0 0' },
    { name: 'of the image', user: 'web', part: {}, is: '1000:1001 1001 29 50' },
    { name: 'and group of the image', user: 'web:staff', part: {}, is: '1000:50 50 29' },
    { name: 'of the image by number', user: '1000', part: {}, is: '1000:1001 1001 29 50' },
    { name: 'of the image, unknown', user: '4000', part: {}, is: '4000:0 0' },
    { name: 'by name', part: { security: { run_as_username: 'web' } }, is: '1000:1001 1001 29 50' },
    {
      name: 'by number with a group',
      part: { security: { run_as_user: { value: '1234' }, run_as_group: { value: '99' } } },
      is: '1234:99 99',
    },
    {
      name: 'with more groups',
      part: { security: { run_as_username: 'web', supplemental_groups: ['7', '8'] } },
      is: '1000:1001 1001 7 8 29 50',
    },
    {
      name: 'with only the groups asked for',
      part: {
        security: { run_as_username: 'web', supplemental_groups: ['7'], supplemental_groups_policy: 'Strict' },
      },
      is: '1000:1001 1001 7',
    },
  ])('is right: $name', async ({ user, part, is }) => {
    const image = await daemon().pull({
      name: `user-${user?.replace(':', '-') ?? 'none'}`,
      ...(user ? { config: { User: user } } : {}),
    })
    const own = await pod(handler)
    const { stdout, status } = await own.run(who, { image: { image }, ...part })
    const sorted = (text: string): string => {
      const [ids = '', first = '', ...groups] = text.trim().split(' ')
      return [ids, first, ...groups.map(Number).sort((a, b) => a - b)].join(' ')
    }
    expect(sorted(stdout)).toBe(is)
    const [ids = ''] = is.split(' ')
    expect(`${status.user?.linux?.uid ?? ''}:${status.user?.linux?.gid ?? ''}`).toBe(ids)
    const told = (status.user?.linux?.supplemental_groups ?? []).map(Number)
    expect(told.sort((a, b) => a - b)).toEqual(
      is
        .split(' ')
        .slice(1)
        .map(Number)
        .sort((a, b) => a - b),
    )
  })

  it('must be in the image where it is a name', async () => {
    const own = await pod(handler)
    const outcome = own.start({ security: { run_as_username: 'stranger' } })
    await expect(outcome).rejects.toMatchObject({ details: containing('stranger') })
  })
})

describe.each(['crun-pinned', 'runc-pinned', ...SHIM_HANDLERS])('the rights of a container on %s', (handler) => {
  const facts = async (part: ContainerPart): Promise<ReturnType<typeof processFacts> & { inheritable: string }> => {
    const own = await pod(handler)
    const id = await own.start(part)
    const { pid } = await daemon().client.containers.info(id)
    const inheritable = /^CapInh:\s*(\w+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? ''
    return { ...processFacts(pid), inheritable }
  }
  const bit = (capabilities: string, number: number): boolean =>
    ((BigInt(`0x${capabilities}`) >> BigInt(number)) & 1n) === 1n
  const [CHOWN, NET_RAW, NET_ADMIN] = [0, 13, 12]

  it('are the default ones, and never inheritable', async () => {
    const { effectiveCapabilities, inheritable, noNewPrivileges } = await facts({})
    expect(inheritable).toBe('0000000000000000')
    expect(bit(effectiveCapabilities, CHOWN)).toBe(true)
    expect(bit(effectiveCapabilities, NET_ADMIN)).toBe(false)
    expect(noNewPrivileges).toBe(false)
  })

  it('are added to and dropped from', async () => {
    const capabilities = { add_capabilities: ['NET_ADMIN'], drop_capabilities: ['CAP_CHOWN'] }
    const { effectiveCapabilities, inheritable } = await facts({ security: { capabilities } })
    expect(bit(effectiveCapabilities, NET_ADMIN)).toBe(true)
    expect(bit(effectiveCapabilities, CHOWN)).toBe(false)
    expect(inheritable).toBe('0000000000000000')
  })

  it('are all dropped but what is added', async () => {
    const capabilities = { add_capabilities: ['NET_RAW'], drop_capabilities: ['ALL'] }
    const { effectiveCapabilities } = await facts({ security: { capabilities } })
    expect(BigInt(`0x${effectiveCapabilities}`)).toBe(1n << BigInt(NET_RAW))
  })

  it('are at most those of the daemon where it is privileged', async () => {
    const own = await TestPod.run(
      daemon(),
      handler,
      daemon().hostPod({
        linux: { security_context: { privileged: true, namespace_options: { network: 'NODE' } } },
      }),
    )
    const id = await own.start({ security: { privileged: true } })
    const { pid } = await daemon().client.containers.info(id)
    const bounding = /^CapBnd:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
    expect(processFacts(pid).effectiveCapabilities).toBe(bounding)
    expect(processFacts(pid).seccompMode).toBe(0)
  })

  it('cannot grow with no_new_privs; seccomp and oom score are as asked', async () => {
    const profile = { profile_type: 'RuntimeDefault' } as const
    const { noNewPrivileges, seccompMode, oomScoreAdj } = await facts({
      security: { no_new_privs: true, seccomp: profile },
      resources: { oom_score_adj: '950' },
    })
    expect({ noNewPrivileges, seccompMode, oomScoreAdj }).toEqual({
      noNewPrivileges: true,
      seccompMode: 2,
      oomScoreAdj: 950,
    })
  })
})

describe('the layers of an image', () => {
  it('lie on each other, with what the upper ones take away', async () => {
    const image = await daemon().pull({
      name: 'layered',
      layers: [
        [
          ...busyboxLayer(),
          { path: 'd', type: 'directory' },
          { path: 'd/kept', content: 'kept' },
          { path: 'd/gone', content: 'gone' },
          { path: 'o', type: 'directory' },
          { path: 'o/old', content: 'old' },
          { path: 'changed', content: 'one' },
          { path: 'hard', type: 'hardlink', target: 'changed' },
        ],
        [
          { path: 'd/.wh.gone' },
          { path: 'o', type: 'directory' },
          { path: 'o/.wh..wh..opq' },
          { path: 'o/new', content: 'new' },
          { path: 'changed', content: 'two', mode: 0o600, uid: 1000, gid: 1001 },
        ],
      ],
    })
    const own = await pod()
    const script = 'ls d o | tr "\\n" " "; cat changed hard; stat -c " %a %u:%g" changed; : > d/mine; ls d'
    expect(await own.prints(script, { image: { image }, working_dir: '/' })).toBe(
      'd: kept  o: new twoone 600 1000:1001\nkept\nmine',
    )
    expect(await own.prints('ls d', { image: { image }, working_dir: '/' })).toBe('kept')
  })
})
