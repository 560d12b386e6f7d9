import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { runOk } from '../../../src/host/programs/run.ts'
import { SHIM_HANDLERS, sharedDaemon } from '../../support/daemon.ts'
import { busyboxLayer } from '../../support/images.ts'
import { mounts } from '../../support/machine.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

const run = (...args: [string, ...string[]]): Promise<unknown> => runOk(args[0], args.slice(1), { timeoutMs: 10_000 })
const pod = (handler = 'crun-pinned'): Promise<TestPod> => TestPod.run(daemon(), handler)

/** A directory of the node, for containers to mount. */
function directory(name: string): string {
  const path = join(daemon().dir, 'volumes', name)
  mkdirSync(path, { recursive: true })
  return path
}

afterEach(async () => {
  // What tests have mounted themselves.
  for (const path of mounts(daemon().dir)
    .filter((mount) => mount.includes('/volumes/'))
    .toReversed()) {
    await run('umount', '-l', path)
  }
})

describe.each(['crun-pinned', 'runc-pinned', ...SHIM_HANDLERS])('mounts on %s', (handler) => {
  it('show a directory or a file of the node, for writing or not', async () => {
    const host = directory('plain')
    writeFileSync(join(host, 'file'), 'of the node')
    const own = await pod(handler)
    const mountsOfIt = [
      { container_path: '/rw', host_path: host },
      { container_path: '/ro', host_path: host, readonly: true },
      { container_path: '/one/file', host_path: join(host, 'file'), readonly: true },
    ]
    const script = 'cat /ro/file /one/file; echo written >/rw/new; echo x >/ro/no 2>/dev/null || echo " refused"'
    expect(await own.prints(script, { mounts: mountsOfIt })).toBe('of the nodeof the node refused')
    expect(readFileSync(join(host, 'new'), 'utf8')).toBe('written\n')
  })

  it('make the directory of the node where it is missing', async () => {
    const host = join(directory('parent'), 'missing')
    const own = await pod(handler)
    await own.prints('echo here >/data/file', { mounts: [{ container_path: '/data', host_path: host }] })
    expect(readFileSync(join(host, 'file'), 'utf8')).toBe('here\n')
  })

  it('are told in the status', async () => {
    const host = directory('told')
    const own = await pod(handler)
    const mount = {
      container_path: '/data',
      host_path: host,
      readonly: true,
      propagation: 'PROPAGATION_PRIVATE',
    } as const
    const { status } = await own.run('true', { mounts: [mount] })
    expect(status.mounts).toMatchObject([mount])
  })

  it('are read-only all the way down where that is asked for', async () => {
    const host = directory(`recursive-${handler}`)
    mkdirSync(join(host, 'below'))
    await run('mount', '-t', 'tmpfs', 'below', join(host, 'below'))
    const own = await pod(handler)
    const script = 'echo x >/data/below/file 2>/dev/null && echo written || echo refused'
    const mount = { container_path: '/data', host_path: host, readonly: true }
    expect(await own.prints(script, { mounts: [mount] })).toBe('written')
    if (handler.startsWith('runc')) return
    expect(await own.prints(script, { mounts: [{ ...mount, recursive_read_only: true }] })).toBe('refused')
  })

  it.each([
    { propagation: 'PROPAGATION_PRIVATE', toContainer: 'absent', toHost: false },
    { propagation: 'PROPAGATION_HOST_TO_CONTAINER', toContainer: 'there', toHost: false },
    { propagation: 'PROPAGATION_BIDIRECTIONAL', toContainer: 'there', toHost: true },
  ] as const)('propagate as asked: $propagation', async ({ propagation, toContainer, toHost }) => {
    const host = directory(`shared-${propagation}-${handler}`)
    await run('mount', '--bind', host, host)
    // By way of private: where systemd has made the root shared, what is mounted in one of the two would be in both.
    await run('mount', '--make-private', host)
    await run('mount', '--make-shared', host)
    for (const name of ['down', 'up']) mkdirSync(join(host, name))
    const own = await TestPod.run(
      daemon(),
      handler,
      daemon().hostPod({ linux: { security_context: { privileged: true, namespace_options: { network: 'NODE' } } } }),
    )
    const id = await own.start({
      mounts: [{ container_path: '/data', host_path: host, propagation }],
      security: { privileged: true },
    })
    const { containers } = daemon().client
    await run('mount', '-t', 'tmpfs', 'down', join(host, 'down'))
    writeFileSync(join(host, 'down/file'), 'there')
    expect(await containers.shell(id, 'cat /data/down/file 2>/dev/null || echo absent')).toBe(toContainer)
    await containers.shell(id, 'mount -t tmpfs up /data/up && echo up >/data/up/file')
    expect(existsSync(join(host, 'up/file'))).toBe(toHost)
  })
})

describe('the root file system', () => {
  it('is for writing, or not', async () => {
    const own = await pod()
    const script = 'echo x >/file 2>/dev/null && echo written || echo refused'
    expect(await own.prints(script)).toBe('written')
    expect(await own.prints(script, { security: { readonly_rootfs: true } })).toBe('refused')
  })

  it('hides what would harm the node', async () => {
    const own = await pod()
    const script =
      'wc -c </proc/kcore 2>/dev/null || echo 0; ls /sys/firmware | wc -l; ' +
      'echo b >/proc/sysrq-trigger 2>/dev/null && echo written || echo refused; ' +
      'echo 1 >/proc/sys/kernel/panic 2>/dev/null && echo written || echo refused; ' +
      'cd /sys/fs/cgroup; cd memory 2>/dev/null; mkdir mine 2>/dev/null && echo made || echo refused'
    const security = {
      masked_paths: ['/proc/kcore', '/sys/firmware'],
      readonly_paths: ['/proc/sysrq-trigger', '/proc/sys'],
    }
    expect(await own.prints(script, { security })).toBe('0\n0\nrefused\nrefused\nrefused')
  })
})

describe('devices', () => {
  it('are those asked for, with the rights asked for, and the usual ones', async () => {
    const own = await pod()
    const host_path = ['/dev/fuse', '/dev/net/tun'].find((path) => existsSync(path)) ?? '/dev/hwrng'
    const devices = [{ container_path: '/dev/mine', host_path, permissions: 'r' }]
    const script =
      '(: </dev/mine) && echo read; (: >/dev/mine) 2>/dev/null && echo written || echo refused; ' +
      'echo x >/dev/null && ls /dev | grep -c -E "^(full|null|random|tty|urandom|zero)$"; ' +
      'mknod /tmp/mem c 1 1; head -c 1 /tmp/mem >/dev/null 2>&1 && echo read || echo refused'
    expect(await own.prints(script, { devices })).toBe('read\nrefused\n6\nrefused')
  })
})

describe('the files that a pod gives to its containers', () => {
  it('tell host name, names and name servers', async () => {
    const dns_config = { servers: ['192.0.2.53'], searches: ['test.example'], options: ['ndots:3'] }
    const own = await TestPod.run(daemon(), 'crun', daemon().pod({ hostname: 'my-host', dns_config }))
    const ip = (await daemon().client.status(own.id)).network?.ip ?? ''
    expect(await own.prints('hostname; cat /etc/hostname')).toBe('my-host\nmy-host')
    expect(await own.prints('cat /etc/hosts')).toMatch(new RegExp(`^${ip.replaceAll('.', '\\.')}\\s+my-host$`, 'm'))
    const lines = (await own.prints('cat /etc/resolv.conf')).split('\n').sort()
    expect(lines).toEqual(['nameserver 192.0.2.53', 'options ndots:3', 'search test.example'])
  })

  it('are not put over those of the caller', async () => {
    const host = directory('etc')
    writeFileSync(join(host, 'hosts'), '192.0.2.1 mine\n')
    const own = await pod()
    const mount = { container_path: '/etc/hosts', host_path: join(host, 'hosts') }
    expect(await own.prints('cat /etc/hosts', { mounts: [mount] })).toBe('192.0.2.1 mine')
  })

  it('share /dev/shm among the containers of a pod', async () => {
    const own = await pod()
    const [a, b] = [await own.start(), await own.start()]
    const { containers } = daemon().client
    await containers.shell(a, 'echo shared >/dev/shm/file')
    expect(await containers.shell(b, 'cat /dev/shm/file; df /dev/shm | grep -c 65536')).toBe('shared\n1')
    const other = await (await pod()).start()
    expect((await containers.exec(other, ['/bin/cat', '/dev/shm/file'])).exitCode).toBe(1)
  })
})

describe('volumes from images', () => {
  const data = {
    name: 'data',
    layers: [
      [
        { path: 'dir', type: 'directory' as const },
        { path: 'dir/file', content: 'in the image' },
      ],
    ],
  }

  it('show an image, or a part of it, and cannot be written', async () => {
    const image = await daemon().pull(data)
    const own = await pod()
    const mountsOfIt = [
      { container_path: '/all', image: { image } },
      { container_path: '/part', image: { image }, image_sub_path: 'dir' },
    ]
    const script = 'cat /all/dir/file /part/file; echo x >/all/new 2>/dev/null || echo " refused"'
    expect(await own.prints(script, { mounts: mountsOfIt })).toBe('in the imagein the image refused')
  })

  it.each(['../..', '/etc', 'dir/../../..', 'link', 'absent'])('do not lead out of the image: %s', async (sub_path) => {
    const image = await daemon().pull({
      name: 'hostile-data',
      layers: [[...(data.layers[0] ?? []), { path: 'link', type: 'symlink', target: '/etc' }]],
    })
    const own = await pod()
    const mount = { container_path: '/part', image: { image }, image_sub_path: sub_path }
    const outcome = await own.run('cat /part/passwd 2>&1', { mounts: [mount] }).catch((error: unknown) => String(error))
    expect(JSON.stringify(outcome)).not.toContain('root:x:0:0:root:/root:/bin/bash')
  })

  it('named by the configuration of the image hold what the image has there', async () => {
    const image = await daemon().pull({
      name: 'with-volume',
      layers: [[...busyboxLayer(), { path: 'vol', type: 'directory' }, { path: 'vol/file', content: 'seed' }]],
      config: { Volumes: { '/vol': {}, '/empty/one': {} } },
    })
    const own = await pod()
    const script = 'cat /vol/file; echo x >/vol/new; echo y >/empty/one/new; ls /vol /empty/one | tr "\\n" " "'
    expect(await own.prints(script, { image: { image } })).toContain('seed')
  })
})

describe('what a container has mounted', () => {
  it('cannot be seen on the node, nor by other containers', async () => {
    const own = await pod()
    const id = await own.start()
    const { containers } = daemon().client
    const table = await containers.shell(id, 'cat /proc/self/mountinfo')
    expect(table).toContain(' / / ')
    expect(table).not.toContain(join(daemon().dir, 'root/sandboxerd.db'))
    // Nothing of the node but what was asked for.
    expect(statSync(`/proc/${(await containers.info(id)).pid}/root/bin/busybox`).size).toBe(
      statSync('/bin/busybox').size,
    )
  })
})
