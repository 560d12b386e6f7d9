import { chownSync, mkdirSync, readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { status as grpc } from '@grpc/grpc-js'
import { afterAll, describe, expect, it } from 'vitest'
import { containing } from '../../support/cni-plugins/containing.ts'
import { CRUN_SHIM_HANDLERS, ownDaemons, sharedDaemon, type TestDaemon } from '../../support/daemon.ts'
import { DaemonStreams } from '../../support/daemon-streams.ts'
import { busyboxLayer } from '../../support/images.ts'
import { processFacts } from '../../support/pod-facts.ts'
import { TestPod } from '../../support/test-pod.ts'
import { linuxWith, ownerOf, ROOT, USERNS } from '../../support/user-namespaces.ts'

const daemon = sharedDaemon()
const start = ownDaemons()
const streams = new DaemonStreams(daemon)
afterAll(async () => streams[Symbol.asyncDispose]())

async function podIn(owner: TestDaemon, handler: string): Promise<TestPod> {
  return TestPod.run(owner, handler, owner.pod({ linux: linuxWith(owner) }))
}

function upperOf(owner: TestDaemon, id: string): string {
  return join(owner.dir, 'root/containers', id, 'upper')
}

describe.each(['crun', 'crun-pinned', ...CRUN_SHIM_HANDLERS])('a container in a user namespace on %s', (handler) => {
  it('is root to itself and nobody in particular to the node', async () => {
    const pod = await podIn(daemon(), handler)
    const id = await pod.start()
    const { containers } = daemon().client
    const { pid } = await containers.info(id)
    expect(processFacts(pid)).toMatchObject({
      uids: Array.from({ length: 4 }, () => ROOT.uid),
      gids: Array.from({ length: 4 }, () => ROOT.gid),
    })
    expect(await containers.shell(id, 'id -u; id -g')).toBe('0\n0')
    const pin = join(daemon().dir, 'state/sandboxes', pod.id, 'user')
    expect(readlinkSync(`/proc/${pid}/ns/user`)).toBe(`user:[${statSync(pin).ino}]`)
    expect(
      await pod.prints('id -u; cat /proc/self/uid_map', {
        security: { namespace_options: USERNS, run_as_user: { value: '1000' } },
      }),
    ).toMatch(/^1000\n\s+0\s+200000\s+65536$/)
  })

  it('owns its root file system; what it writes is the mapped users’ on the node', async () => {
    const pod = await podIn(daemon(), handler)
    const id = await pod.start()
    const { containers } = daemon().client
    const script =
      'touch /new; chown 1000:1001 /new; mkdir /dir; echo x >>/etc/passwd; stat -c %u:%g / /bin /bin/busybox /new /dir /etc/passwd'
    expect((await containers.shell(id, script)).split('\n')).toEqual(['0:0', '0:0', '0:0', '1000:1001', '0:0', '0:0'])
    const upper = upperOf(daemon(), id)
    expect(ownerOf(upper)).toEqual(ROOT)
    expect(ownerOf(join(upper, 'dir'))).toEqual(ROOT)
    expect(ownerOf(join(upper, 'etc/passwd'))).toEqual(ROOT)
    expect(ownerOf(join(upper, 'new'))).toEqual({ uid: ROOT.uid + 1000, gid: ROOT.gid + 1001 })
    // The layers are everybody's, and as they were.
    const other = await TestPod.run(daemon(), handler)
    expect(await other.prints('stat -c %u:%g /bin/busybox; tail -n 1 /etc/passwd')).toMatch(/^0:0\n.*:\/bin\/false$/)
  })

  it('may write where others may: the pod’s files and /dev/shm, a terminal, the standard streams', async () => {
    const pod = await podIn(daemon(), handler)
    const script =
      'echo >>/etc/hosts && echo >/dev/shm/file && echo out >/dev/stdout && echo err >/dev/stderr && : </dev/null && stat -c %u:%g /dev/shm/file'
    const ended = await pod.run(script)
    expect(ended).toMatchObject({ stdout: 'out\n0:0\n', stderr: 'err\n' })
    expect(await pod.prints('tty; echo seen >/dev/tty', { tty: true })).toContain('seen')
    // Nobody in it gets what belongs to the node.
    expect(ownerOf('/dev/null')).toEqual({ uid: 0, gid: 0 })
  })

  it('reads an empty input where it has none', async () => {
    const pod = await podIn(daemon(), handler)
    expect(await pod.prints('cat; echo end')).toBe('end')
  })

  it('runs commands', async () => {
    const pod = await podIn(daemon(), handler)
    const id = await pod.start()
    const { containers } = daemon().client
    expect(await containers.shell(id, 'id -u; cat /proc/self/uid_map | tr -s " "')).toBe('0\n 0 200000 65536')
    expect(await containers.exec(id, ['/bin/sh', '-c', 'kill -9 $$'])).toMatchObject({ exitCode: 137 })
    expect(ownerOf('/dev/null')).toEqual({ uid: 0, gid: 0 })
  })

  it('is talked to, with and without a terminal, and gets nothing of the node with it', async () => {
    const pod = await podIn(daemon(), handler)
    for (const part of [{ stdin: true }, { stdin: true, tty: true }, { tty: true }]) {
      const id = await pod.start(part)
      for (const tty of [false, true]) {
        for (const stdin of [false, true]) {
          const wanted = { stdin, stdout: true, stderr: false, tty }
          const command = await streams.exec(id, ['/bin/sh', '-c', 'echo seen; exit 3'], wanted, 'websocket')
          expect(command.stdout && (await text(command.stdout))).toContain('seen')
          expect(await command.status).toMatchObject({ details: { causes: [{ message: '3' }] } })
          expect(ownerOf('/dev/null')).toEqual({ uid: 0, gid: 0 })
        }
      }
    }
  })

  it('has capabilities over what is its own, and over nothing else', async () => {
    const pod = await podIn(daemon(), handler)
    const security = { namespace_options: USERNS, capabilities: { add_capabilities: ['ALL'] } }
    const id = await pod.start({ security })
    const { containers } = daemon().client
    await containers.shell(id, 'ip link set lo down && ip link set lo up && hostname other && mount -t tmpfs none /tmp')
    for (const script of ['mknod /dev/disk b 254 0', 'echo 1 >/proc/sys/kernel/sysrq', 'chown 1 /dev/null']) {
      expect((await containers.exec(id, ['/bin/sh', '-c', script])).exitCode, script).not.toBe(0)
    }
  })

  it('owns the volumes of its image, and the images that it mounts', async () => {
    const pod = await podIn(daemon(), handler)
    const image = await daemon().pull({
      name: 'userns-volume',
      layers: [
        busyboxLayer(),
        [
          { path: 'vol', type: 'directory' },
          { path: 'vol/file', content: 'seed' },
        ],
      ],
      config: { Volumes: { '/vol': {}, '/empty/one': {} } },
    })
    const script =
      'echo x >/empty/one/new && echo x >/vol/new && stat -c %u:%g /empty /empty/one /vol/file /mnt/vol/file && cat /mnt/vol/file'
    const mounts = [{ container_path: '/mnt', image: { image } }]
    expect(await pod.prints(script, { image: { image }, mounts })).toBe('0:0\n0:0\n0:0\n0:0\nseed')
  })

  it('owns the files of mounts that are mapped, and not of those that are not', async () => {
    const dir = join(daemon().dir, `volume-${handler}`)
    mkdirSync(dir)
    writeFileSync(join(dir, 'file'), '')
    chownSync(join(dir, 'file'), 1000, 1001)
    const pod = await podIn(daemon(), handler)
    const [uidMappings, gidMappings] = [USERNS.userns_options?.uids ?? [], USERNS.userns_options?.gids ?? []]
    const mounts = [
      { container_path: '/mapped', host_path: dir, uidMappings, gidMappings },
      { container_path: '/plain', host_path: dir },
    ]
    const script = 'touch /mapped/new; stat -c %u:%g /mapped/file /mapped/new /plain/file'
    expect(await pod.prints(script, { mounts })).toBe('1000:1001\n0:0\n65534:65534')
    expect(ownerOf(join(dir, 'new'))).toEqual({ uid: 0, gid: 0 })
  })

  it('leaves no mount but its root file system', async () => {
    const pod = await podIn(daemon(), handler)
    const id = await pod.start()
    const { containers } = daemon().client
    expect(readdirSync(join(daemon().dir, 'state/containers', id, 'rootfs')).toSorted()).toContain('bin')
    await containers.stop(id)
    await containers.remove(id)
    expect(readdirSync(join(daemon().dir, 'state/containers'))).toEqual([])
  })

  it('can be created after a restart of the daemon', async () => {
    const own = await start()
    const pod = await podIn(own, handler)
    const before = await pod.start()
    await own.restart()
    const { containers } = own.client
    const after = await pod.start()
    const users = await Promise.all(
      [before, after].map(async (id) => readlinkSync(`/proc/${(await containers.info(id)).pid}/ns/user`)),
    )
    expect(users[0]).toBe(users[1])
    expect(await containers.shell(before, 'id -u')).toBe('0')
    expect(await containers.shell(after, 'id -u')).toBe('0')
    await own.removeListed()
  })
})

describe('a container', () => {
  it('has the mappings of its pod', async () => {
    const pod = await podIn(daemon(), 'crun')
    const other = [{ host_id: 400_000, container_id: 0, length: 65_536 }]
    const options = { ...USERNS, userns_options: { mode: 'POD', uids: other, gids: other } } as const
    for (const namespace_options of [options, { ...USERNS, userns_options: null }]) {
      await expect(pod.create({ security: { namespace_options } })).rejects.toMatchObject({
        code: grpc.INVALID_ARGUMENT,
        details: containing('userns_options'),
      })
    }
  })

  it('killed while its root file system is mounted leaves nothing', async () => {
    const own = await start()
    const pod = await podIn(own, 'crun')
    const config = await pod.containerConfig()
    await own.restart('container-create.mountRootfs.after=kill')
    await expect(own.client.containers.create(pod.id, config, pod.config)).rejects.toThrow()
    await own.ended()
    await own.restart()
    expect(await own.client.containers.list()).toEqual([])
    await own.removeListed()
  })
})
