import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import type { NamespaceOption } from '../../../src/generated/runtime/v1/NamespaceOption.ts'
import type { PodSandboxConfig } from '../../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { containing } from '../../support/cni-plugins/containing.ts'
import { ownDaemons, sharedDaemon, type TestDaemon } from '../../support/daemon.ts'
import { inside, processFacts } from '../../support/pod-facts.ts'
import { beforeAndAfter } from '../../support/steps.ts'
import { linuxWith, ownerOf, ROOT, USERNS } from '../../support/user-namespaces.ts'

const daemon = sharedDaemon()
const start = ownDaemons()

/** Runtimes that have id-mapped mounts, which kubelets want for the volumes of such pods. */
const HANDLERS = ['crun', 'crun-pinned']

function podIn(owner: TestDaemon, options: NamespaceOption = USERNS): PodSandboxConfig {
  return owner.pod({ linux: linuxWith(owner, options) })
}

function pinOf(owner: TestDaemon, id: string): string {
  return join(owner.dir, 'state/sandboxes', id, 'user')
}

describe.each(HANDLERS)('a pod in a user namespace on %s', (handler) => {
  it('has one with its mappings, which its other namespaces belong to', async () => {
    const id = await daemon().run(podIn(daemon()), handler)
    const pin = pinOf(daemon(), id)
    expect((await inside([`--user=${pin}`], 'cat', '/proc/self/uid_map')).split(/\s+/)).toEqual([
      '0',
      '200000',
      '65536',
    ])
    expect((await inside([`--user=${pin}`], 'cat', '/proc/self/gid_map')).split(/\s+/)).toEqual([
      '0',
      '300000',
      '65536',
    ])
    const { netnsPath } = await daemon().client.info(id)
    // Its root may do with its own network what it likes, and nothing with the node's.
    await inside([`--user=${pin}`, `--net=${netnsPath}`], 'ip', 'link', 'add', 'own', 'type', 'bridge')
    const node = `--net=/run/netns/${daemon().node}`
    await expect(inside([`--user=${pin}`, node], 'ip', 'link', 'set', 'lo', 'up')).rejects.toThrow('not permitted')
  })

  it('has a network', async () => {
    const config = podIn(daemon())
    const id = await daemon().run(config, handler)
    const { network } = await daemon().client.status(id)
    expect(network?.ip).toMatch(/^10\.64\./)
    const { netnsPath } = await daemon().client.info(id)
    expect(await inside([`--net=${netnsPath}`], 'ip', '-o', 'link', 'show', 'lo')).toContain('LOWER_UP')
    await inside([`--net=/run/netns/${daemon().node}`], 'ping', '-c', '1', '-W', '2', network?.ip ?? '')
  })

  it('has its sysctls, and files that belong to its root', async () => {
    const sysctls = { 'net.ipv4.ip_forward': '1', 'kernel.msgmax': '9000' }
    const id = await daemon().run(daemon().pod({ linux: { ...linuxWith(daemon()), sysctls } }), handler)
    const { netnsPath, pid } = await daemon().client.info(id)
    expect(await inside([`--net=${netnsPath}`], 'cat', '/proc/sys/net/ipv4/ip_forward')).toBe('1')
    const ipc = handler === 'crun' ? `/proc/${pid}/ns/ipc` : join(daemon().dir, 'state/sandboxes', id, 'ipc')
    expect(await inside([`--ipc=${ipc}`], 'cat', '/proc/sys/kernel/msgmax')).toBe('9000')
    const files = join(daemon().dir, 'root/sandboxes', id)
    for (const name of ['hostname', 'hosts', 'resolv.conf']) expect(ownerOf(join(files, name))).toEqual(ROOT)
    expect(statSync(join(files, 'checkpoint.json'))).toMatchObject({ uid: 0, mode: 0o100600 })
    expect(ownerOf(join(daemon().dir, 'state/sandboxes', id, 'shm'))).toEqual(ROOT)
  })

  it('has a pause process without any right on the node', async () => {
    const id = await daemon().run(podIn(daemon(), { ...USERNS, pid: 'POD' }), handler)
    const { pid } = await daemon().client.info(id)
    expect(processFacts(pid)).toMatchObject({
      uids: Array.from({ length: 4 }, () => ROOT.uid),
      gids: Array.from({ length: 4 }, () => ROOT.gid),
    })
    expect(readlinkSync(`/proc/${pid}/ns/user`)).toBe(`user:[${statSync(pinOf(daemon(), id)).ino}]`)
    // crun would give it to that root.
    expect(ownerOf('/dev/null')).toEqual({ uid: 0, gid: 0 })
  })

  it('is what it was after a restart, and goes whole', async () => {
    const own = await start()
    const id = await own.run(podIn(own), handler)
    const before = { status: await own.client.status(id), user: statSync(pinOf(own, id)).ino }
    await own.restart()
    expect({ status: await own.client.status(id), user: statSync(pinOf(own, id)).ino }).toEqual(before)
    expect((await own.client.info(id)).ledger.map(({ kind }) => kind)).toContain('userns')
    await own.removeListed()
  })
})

describe('a user namespace', () => {
  it('is announced where it works', async () => {
    const { runtime_handlers: handlers } = await daemon().client.nodeStatus()
    const having = handlers.filter(({ features }) => features?.user_namespaces).map(({ name }) => name)
    expect(having).toEqual(expect.arrayContaining(HANDLERS))
    // 1.1 maps no mounts.
    expect(having).not.toContain('runc')
    expect(readdirSync(join(daemon().dir, 'root'))).not.toContain('userns-probe')
  })

  it('is refused where the runtime cannot, before anything is made', async () => {
    await expect(daemon().client.run(podIn(daemon()), 'runc')).rejects.toMatchObject({
      code: grpc.FAILED_PRECONDITION,
      details: containing('userns_options'),
    })
  })

  it.each([{ network: 'NODE' }, { pid: 'NODE' }, { ipc: 'NODE' }] as const)(
    'needs its own namespaces: %j',
    async (part) => {
      await expect(daemon().client.run(podIn(daemon(), { ...USERNS, ...part }), 'crun')).rejects.toMatchObject({
        code: grpc.INVALID_ARGUMENT,
        details: containing('userns_options.mode'),
      })
    },
  )

  it('that cannot be made is an error that says why', async () => {
    const long = [{ host_id: 0xffff_0000, container_id: 0, length: 0xfffe }]
    const options: NamespaceOption = { ...USERNS, userns_options: { mode: 'POD', uids: long, gids: long } }
    const sysctls = { 'kernel.msgmax': 'many' }
    const config = daemon().pod({ linux: { ...linuxWith(daemon(), options), sysctls } })
    await expect(daemon().client.run(config, 'crun-pinned')).rejects.toMatchObject({
      details: containing('kernel/msgmax'),
    })
  })
})

describe('kill -9', () => {
  const points = [...beforeAndAfter('run', ['prepareUserNamespace', 'prepareSandboxKey']), 'run.createController.after']

  it.each(points)('in RunPodSandbox at %s leaves nothing', async (point) => {
    const own = await start({ failpoints: `${point}=kill` })
    const config = podIn(own)
    await expect(own.client.run(config, 'crun-pinned')).rejects.toThrow()
    await own.ended()
    await own.restart()
    expect(await own.client.list()).toEqual([])
    await own.expectNothingLeft()
    await own.run(config, 'crun-pinned')
    await own.removeListed()
  })

  it.each(beforeAndAfter('release', ['userns']))('in RemovePodSandbox at %s is made good', async (point) => {
    const own = await start({ failpoints: `${point}=kill` })
    const id = await own.run(podIn(own), 'crun')
    await expect(own.client.remove(id)).rejects.toThrow()
    await own.ended()
    await own.restart()
    expect(await own.client.list()).toEqual([])
  })

  it('while the namespace is made leaves no program', async () => {
    const own = await start()
    const running = own.client.run(podIn(own), 'crun').catch(() => undefined)
    await own.kill9()
    await running
    await own.restart()
    await own.removeListed()
    await own.expectNothingLeft()
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(`${own.dir}/state/sandboxes`)
  })
})
