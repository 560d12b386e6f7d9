import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { runOk } from '../../../src/host/programs/run.ts'
import { SHIM_HANDLERS, sharedDaemon } from '../../support/daemon.ts'
import { busyboxLayer } from '../../support/images.ts'
import { inside } from '../../support/pod-facts.ts'
import type { TarEntry } from '../../support/tar.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

const MIB = 1024 * 1024
const pod = (handler = 'crun-pinned'): Promise<TestPod> => TestPod.run(daemon(), handler)

function withFile(entry: TarEntry): readonly (readonly TarEntry[])[] {
  return [busyboxLayer(), [{ path: `etc/.wh.${entry.path.slice('etc/'.length)}` }], [entry]]
}

function rssKib(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${daemon().pid}/status`, 'utf8'))?.[1])
}

describe('an image whose /etc/passwd', () => {
  const hostile: Readonly<Record<string, TarEntry>> = {
    'is huge': { path: 'etc/passwd', content: Buffer.alloc(64 * MIB, 'x') },
    'has one endless line': { path: 'etc/passwd', content: Buffer.alloc(9 * MIB, 'y') },
    'is a fifo': { path: 'etc/passwd', type: 'fifo' },
    'leads to /dev/zero': { path: 'etc/passwd', type: 'symlink', target: '/dev/zero' },
    'leads to that of the node': { path: 'etc/passwd', type: 'symlink', target: '../../../../../../../etc/passwd' },
    'is a directory': { path: 'etc/passwd', type: 'directory' },
    'is a device': { path: 'etc/passwd', type: 'character', device: [1, 5] },
  }

  it.each(Object.keys(hostile))('%s holds up nobody, and names nobody of the node', async (name) => {
    const entry = hostile[name]
    if (!entry) throw new Error(name)
    const image = await daemon().pull({
      name: `passwd-${name.replace(/\W/g, '-').toLowerCase()}`,
      layers: withFile(entry),
    })
    const own = await pod()
    const before = rssKib()
    // `daemon` is a user of every Debian, and of no image here.
    const creating = own.start({ image: { image }, security: { run_as_username: 'daemon' } })
    await expect(creating).rejects.toThrow()
    expect(rssKib() - before).toBeLessThan(48 * 1024)
    for (const { id } of await daemon().client.containers.list()) await daemon().client.containers.remove(id)
    // A number needs no names: it runs, or is refused because of the file.
    const outcome = await own
      .prints('grep ^Uid: /proc/self/status', { image: { image }, security: { run_as_user: { value: '1234' } } })
      .catch((error: unknown) => String(error))
    expect(outcome).toMatch(/^Uid:\s+1234\s|\/etc\/passwd/)
  })
})

describe('text with control characters', () => {
  it.each([{ HOME: '/root\nevil:x:0:0::/:/bin/sh' }, { HOME: '/root\\nevil' }, { TERM: 'a\rb' }])(
    'in the environment makes no new users: %j',
    async (env) => {
      const own = await pod()
      const outcome = await own
        .run('cat /etc/passwd', { env, security: { run_as_user: { value: '4321' } } })
        .catch(() => undefined)
      expect(outcome?.stdout ?? '').not.toContain('evil')
    },
  )

  it.each(['\n', '\r', '\0'])('in the name of a user is refused: %j', async (character) => {
    const own = await pod()
    await expect(own.create({ security: { run_as_username: `web${character}x` } })).rejects.toThrow()
    await expect(own.create({ env: { [`A${character}`]: 'x' } })).rejects.toThrow()
  })
})

describe('a hostile image', () => {
  it.each(['/../../../../etc/sbx-evil', '../../sbx-evil', '/link/sbx-evil', '/proc/1/root/tmp/sbx-evil'])(
    'with the volume %s writes nothing on the node',
    async (volume) => {
      const image = await daemon().pull({
        name: `volume-${volume.replace(/\W/g, '-').toLowerCase().replace(/^-+/, '')}`,
        layers: [busyboxLayer(), [{ path: 'link', type: 'symlink', target: '/tmp' }]],
        config: { Volumes: { [volume]: {} }, Cmd: ['/bin/sh'] },
      })
      const own = await pod()
      await own.run('true', { image: { image } }).catch(() => undefined)
      for (const place of ['/etc/sbx-evil', '/tmp/sbx-evil', join(daemon().dir, 'sbx-evil')]) {
        expect(existsSync(place), place).toBe(false)
      }
    },
  )

  it('cannot make the node mount or write through its links', async () => {
    const places = ['dev', 'proc', 'sys', 'etc/resolv.conf', 'etc/hostname']
    const links = places.map((path): TarEntry => ({ path, type: 'symlink', target: '/tmp/sbx-target' }))
    const layer = busyboxLayer().filter(({ path }) => !places.includes(path))
    const image = await daemon().pull({ name: 'links', layers: [[...layer, ...links]] })
    const own = await pod()
    await own.run('true', { image: { image } }).catch(() => undefined)
    expect(existsSync('/tmp/sbx-target')).toBe(false)
  })

  it.each(['/proc/self/fd/3', '/proc/self/fd/7', '/proc/self/fd/8', '/proc/self/cwd/../../..'])(
    'with the working directory %s does not see the node',
    async (WorkingDir) => {
      const image = await daemon().pull({
        name: `cwd-${WorkingDir.replace(/\W+/g, '-').slice(1).replace(/-$/, '')}`,
        config: { WorkingDir },
      })
      const own = await pod()
      const script = 'cat ../../../../../../../etc/hostname ../../../../../../../etc/passwd 2>&1'
      const outcome = await own.run(script, { image: { image } }).catch(() => undefined)
      expect(outcome?.stdout ?? '').not.toContain('/bin/bash')
    },
  )
})

describe.each(['crun', 'runc', 'crun-pinned', 'runc-pinned', ...SHIM_HANDLERS])('a container on %s', (handler) => {
  it('has no open file but its three', async () => {
    const own = await pod(handler)
    const id = await own.start()
    const { containers } = daemon().client
    const files = async (list: Promise<string>): Promise<string[]> => (await list).split('\n').sort()
    // The fourth is the directory that `ls` reads.
    expect(await files(own.prints('ls /proc/self/fd'))).toEqual(['0', '1', '2', '3'])
    expect(await files(containers.shell(id, 'ls /proc/self/fd'))).toEqual(['0', '1', '2', '3'])
    expect(await own.prints('readlink /proc/self/fd/0')).toBe('/dev/null')
  })
})

describe('what is not for everybody', () => {
  it('cannot be entered by a user of the node', async () => {
    const own = await pod()
    const id = await own.start()
    const as = ['--reuid', '65534', '--regid', '65534', '--clear-groups']
    for (const place of [`root/containers/${id}`, `state/containers/${id}`, 'root', 'state']) {
      const path = join(daemon().dir, place)
      if (!existsSync(path)) continue
      await expect(runOk('/usr/bin/setpriv', [...as, 'ls', path], { timeoutMs: 5000 }), path).rejects.toThrow()
    }
  })

  it('is no abstract socket either', async () => {
    const own = await pod()
    const id = await own.start()
    const { pid } = await daemon().client.containers.info(id)
    const sockets = await inside([`--net=/proc/${pid}/ns/net`], '/bin/cat', '/proc/net/unix')
    expect(sockets).not.toMatch(/@.*(sbx-|conmon|containers)/)
  })
})

describe('secrets of a container', () => {
  it('are not in the log of the daemon', async () => {
    const own = await pod()
    const id = await own.start({ env: { TOKEN: 'canary-in-the-env' } })
    await expect(daemon().client.containers.exec(id, ['/no/such', 'canary-in-the-args'])).rejects.toThrow()
    expect(daemon().logs()).not.toContain('canary-in-the-env')
  })
})
