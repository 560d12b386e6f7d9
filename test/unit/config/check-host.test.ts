import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { checkHost } from '../../../src/config/check-host.ts'
import { groupId } from '../../../src/host/group.ts'
import { parseConfig } from '../../../src/config/parse.ts'

let dir: string

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sandboxerd-host-'))
  await writeFile(join(dir, 'group'), 'root:x:0:\nkube:x:4711:a,b\n')
  await writeFile(join(dir, 'seccomp.json'), '{}')
  for (const name of ['crun', 'conmon', 'catatonit', 'skopeo', 'storage'])
    await writeFile(join(dir, name), '', { mode: 0o755 })
})

afterEach(async () => {
  await rm(dir, { recursive: true })
})

/** What is found for a machine where everything is there, with `toml` (of other tables) on top. */
function check(toml = '', top = ''): Promise<string[]> {
  const config = parseConfig(
    `root = "${dir}/made/root"
    state = "${dir}/made/state"
    netns_dir = "${dir}/netns"
    ${top}
    ${toml.includes('[runtimes') ? '' : `[runtimes.crun]\nruntime = "${dir}/crun"`}
    ${toml.includes('[conmon') ? '' : `[conmon]\npath = "${dir}/conmon"`}
    ${toml.includes('[images') ? '' : `[images]\nskopeo = "${dir}/skopeo"\nstorage_tool = "${dir}/storage"`}
    ${toml.includes('[pause') ? '' : `[pause]\nbinary = "${dir}/catatonit"`}
    ${toml.includes('[seccomp') ? '' : `[seccomp]\ndefault_profile = "${dir}/seccomp.json"`}
    ${toml}`,
    'test.toml',
  )
  return checkHost(config, { groupFile: join(dir, 'group'), systemdDir: join(dir, 'systemd') })
}

describe('checkHost', () => {
  it('finds nothing wrong where everything is there, and makes nothing', async () => {
    expect(await check('[cri]\ngroup = "kube"\n[sandboxer]\ngroup = "99"')).toEqual([])
    expect(await readdir(dir)).not.toContain('made')
  })

  it('reports everything that is missing, each with its key', async () => {
    await writeFile(join(dir, 'plain'), '', { mode: 0o644 })
    const toml = `
      [runtimes.crun]
      runtime = "${dir}/none"
      [runtimes.kata]
      sandboxer = "far"
      [sandboxers.far]
      address = "${dir}/far.sock"
      [conmon]
      path = "${dir}/plain"
      [pause]
      binary = "${dir}"
      [seccomp]
      default_profile = "${dir}/plain"
      [cri]
      group = "nobody-knows"
      [admin]
      group = "nor-these"
      socket = "${dir}/plain/admin.sock"
      [cgroup]
      driver = "systemd"`
    expect(await check(toml)).toEqual([
      `runtimes.crun.runtime: ${dir}/none does not exist`,
      `conmon.path: ${dir}/plain is not executable`,
      `pause.binary: ${dir} is not a file`,
      expect.stringContaining(`seccomp.default_profile: ${dir}/plain is not JSON: `),
      `cri.group: there is no group nobody-knows in ${dir}/group`,
      `admin.group: there is no group nor-these in ${dir}/group`,
      `admin.socket: ${dir}/plain is not a directory`,
      'cgroup.driver: systemd is not the init of this machine',
    ])
  })

  it('asks for no programs of the shim where remote sandboxers run all pods', async () => {
    const toml = `
      [runtimes.kata]
      sandboxer = "far"
      [sandboxers.far]
      address = "/far.sock"
      [conmon]
      path = "/none"
      [pause]
      binary = "/none"`
    expect(await check(toml, 'default_runtime_handler = "kata"')).toEqual([])
  })

  it('asks for no built-in pause program where there is a pause image', async () => {
    expect(await check('[pause]\nbinary = "/none"\nimage = "pause:3.10"')).toEqual([])
  })

  it('asks for the programs that keep images, and for the files that are named', async () => {
    const toml = `
      [images]
      skopeo = "/none/skopeo"
      storage_tool = "/none/storage"
      registries_conf = "/none/registries.conf"
      policy = "${dir}/group"`
    expect(await check(toml)).toEqual([
      'images.skopeo: /none/skopeo does not exist',
      'images.storage_tool: /none/storage does not exist',
      'images.registries_conf: /none/registries.conf does not exist',
      expect.stringContaining(`images.policy: ${dir}/group is not JSON: `),
    ])
  })

  it('asks for the files of the streaming server', async () => {
    const toml = `
      [streaming]
      tls_cert_file = "/none/cert.pem"
      tls_key_file = "${dir}"
      tls_client_ca_file = "${dir}/group"`
    expect(await check(toml)).toEqual([
      'streaming.tls_cert_file: /none/cert.pem does not exist',
      `streaming.tls_key_file: ${dir} is not a file`,
    ])
  })

  it('refuses a directory below something that is none', async () => {
    expect(await check(`[cri]\nsocket = "${dir}/crun/x/cri.sock"`)).toEqual([
      `cri.socket: ${dir}/crun is not a directory`,
    ])
    await mkdir(join(dir, 'systemd'))
    expect(await check('[cgroup]\ndriver = "systemd"')).toEqual([])
  })
})

describe('groupId', () => {
  it('finds names and takes numbers as they are', async () => {
    const file = join(dir, 'group')
    expect(await groupId('kube', file)).toBe(4711)
    expect(await groupId('12', file)).toBe(12)
    expect(await groupId('kub', file)).toBeUndefined()
    await expect(groupId('kube', join(dir, 'none'))).rejects.toThrow('ENOENT')
  })
})
