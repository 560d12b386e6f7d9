import { existsSync, readFileSync, truncateSync } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { PodSandboxConfig } from '../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { run } from '../../src/host/programs/run.ts'
import { bridgeNetwork, ownDaemons, SHIM_HANDLERS, type TestDaemon } from '../support/daemon.ts'
import {
  callDoctor,
  doctor,
  forget,
  foreignMonitor,
  mountShm,
  nestedMonitor,
  ownId,
  pinNetns,
  reserve,
  strayPause,
} from '../support/seeded-damage.ts'
import { TestPod } from '../support/test-pod.ts'

const start = ownDaemons()

/** An id that no key of ours has made. */
const FOREIGN = 'f0'.repeat(32)

/** A pod whose cgroup is where ours are by default: of one without any record, nobody knows who made the parents. */
const plainPod = (daemon: TestDaemon): PodSandboxConfig => ({ ...daemon.pod(), linux: null })

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`)

async function flipByte(path: string, before = '"namespace":"'): Promise<void> {
  const bytes = await readFile(path)
  const at = bytes.indexOf(before) + before.length
  bytes[at] = (bytes[at] ?? 0) ^ 1
  await writeFile(path, bytes)
}

/** Another daemon on the same node, which shares the directory of namespaces and the network. */
async function neighbour(daemon: TestDaemon): Promise<TestDaemon> {
  return start({
    node: daemon.node,
    config: { netns_dir: join(daemon.dir, 'netns') },
    networks: () => ({ '10-test.conflist': bridgeNetwork(daemon) }),
  })
}

/** What is there of others, and looks like ours. Returns a look at all of it. */
async function seedForeign(daemon: TestDaemon): Promise<{ readonly look: () => boolean[]; clear(): Promise<void> }> {
  const netns = await pinNetns(daemon, FOREIGN)
  const address = await reserve(daemon, '10.64.99.9', FOREIGN)
  const monitors = [foreignMonitor(FOREIGN), nestedMonitor(daemon, FOREIGN)]
  const killAll = (): void => monitors.forEach((monitor) => void monitor.kill('SIGKILL'))
  onTestFinished(killAll)
  return {
    look: () => [existsSync(netns), existsSync(address), ...monitors.map(({ pid }) => isAlive(pid ?? 0))],
    clear: async () => {
      await run('/bin/umount', [netns], { timeoutMs: 10_000 })
      await rm(netns, { force: true })
      await rm(address, { force: true })
      killAll()
    },
  }
}

/** Things of ours that nobody has on record, made by hand. Returns what is to be found: kinds and subjects. */
async function seedOrphans(
  daemon: TestDaemon,
  like: string,
): Promise<readonly (readonly [kind: string, subject: string])[]> {
  const ids = await Promise.all(Array.from({ length: 5 }, () => ownId(daemon)))
  const [netns = '', address = '', shm = '', exit = '', stray = ''] = ids.map((id) => daemon.track(id))
  const exitPath = join(daemon.dir, 'state', 'exits', exit)
  await writeFile(exitPath, '0')
  const found: (readonly [string, string])[] = [
    ['orphan-netns', await pinNetns(daemon, netns)],
    ['orphan-address', await reserve(daemon, '10.64.99.8', address)],
    ['orphan-mount', await mountShm(daemon, shm)],
    ['orphan-file', exitPath],
  ]
  await strayPause(daemon, stray, like)
  const bundle = join(daemon.dir, 'state', 'sandboxes', stray)
  const pids = ['conmon.pid', 'container.pid'].map((name) => readFileSync(join(bundle, name), 'utf8').trim())
  return [...found, ['orphan-process', `conmon ${pids[0]}, process ${pids[1]}`]]
}

describe('sandboxerctl doctor', () => {
  it('without the daemon finds all of ours and nothing of others, repairs it, and finds nothing the next time', async () => {
    const daemon = await start()
    const other = await neighbour(daemon)
    const otherPod = await other.run(plainPod(other))
    const [healthy, killed, flipped] = [await daemon.run(), await daemon.run(), await daemon.run()]
    const [orphan, pinned] = [await daemon.run(plainPod(daemon)), await daemon.run(daemon.pod(), 'crun-pinned')]
    const { pid: killedPid } = await daemon.client.info(killed)
    const { pid: orphanPid } = await daemon.client.info(orphan)
    const orphanIp = (await daemon.client.status(orphan)).network?.ip ?? ''
    expect(await daemon.stop()).toBe(0)
    expect(await doctor(daemon)).toEqual([])

    process.kill(killedPid, 'SIGKILL')
    await expect.poll(() => existsSync(join(daemon.dir, 'state', 'exits', killed))).toBe(true)
    await flipByte(join(daemon.dir, 'root', 'sandboxes', flipped, 'checkpoint.json'))
    forget(daemon, orphan)
    await rm(join(daemon.dir, 'root', 'sandboxes', orphan), { recursive: true })
    const seeded = [
      ...(await seedOrphans(daemon, healthy)),
      ['row-without-process', `process ${killedPid}`],
      ['checkpoint-damaged', join(daemon.dir, 'root', 'sandboxes', flipped, 'checkpoint.json')],
      ['orphan-netns', join(daemon.dir, 'netns', `sbx-${orphan}`)],
      ['orphan-address', join(daemon.dir, 'ipam', 'test', orphanIp)],
      ['orphan-mount', join(daemon.dir, 'state', 'sandboxes', orphan, 'shm')],
      ['orphan-cgroup', `/sandboxerd/${orphan}`],
      ['orphan-directory', join(daemon.dir, 'state', 'sandboxes', orphan)],
    ]
    const foreign = await seedForeign(daemon)

    const found = await doctor(daemon)
    const pairs = found.map(({ kind, subject }) => [kind, subject])
    for (const pair of seeded) expect(pairs).toContainEqual(pair)
    expect(found.every(({ outcome, message }) => outcome === 'found' && !message.includes('\n'))).toBe(true)
    for (const id of [FOREIGN, otherPod, healthy, pinned]) expect(JSON.stringify(found)).not.toContain(id)
    expect(isAlive(orphanPid)).toBe(true)

    const fixed = await doctor(daemon, '--fix')
    expect(fixed.filter(({ outcome }) => outcome !== 'fixed')).toEqual([])
    expect(await doctor(daemon, '--fix')).toEqual([])
    expect(isAlive(orphanPid)).toBe(false)
    expect(foreign.look()).toEqual([true, true, true, true])

    await daemon.launch()
    await daemon.recovered()
    const states = new Map((await daemon.client.list()).map(({ id, state }) => [id, state]))
    expect(Object.fromEntries(states)).toEqual({
      [healthy]: 'SANDBOX_READY',
      [pinned]: 'SANDBOX_READY',
      [flipped]: 'SANDBOX_READY',
      [killed]: 'SANDBOX_NOTREADY',
    })
    expect((await daemon.client.info(flipped)).quarantined).toBe('')
    expect((await other.client.status(otherPod)).state).toBe('SANDBOX_READY')
    expect(await doctor(daemon)).toEqual([])
    expect(await doctor(other)).toEqual([])
    await foreign.clear()
    await daemon.removeListed()
    await other.removeListed()
  })

  it.each([
    ['is cut short', 5000],
    ['is empty', 0],
  ])('makes a database that %s anew from the checkpoints', async (_, length) => {
    const daemon = await start()
    const ids = [await daemon.run(), await daemon.run(daemon.pod(), 'runc'), await daemon.run(daemon.hostPod())]
    const addresses = (): Promise<unknown> =>
      Promise.all(ids.map(async (id) => (await daemon.client.status(id)).network))
    const before = await addresses()
    expect(await daemon.stop()).toBe(0)
    for (const suffix of ['-wal', '-shm']) await rm(daemon.database + suffix, { force: true })
    truncateSync(daemon.database, length)

    const found = await doctor(daemon)
    const missing = found.filter(({ kind }) => kind === 'row-missing').map(({ ownerId }) => ownerId ?? '')
    expect(missing.toSorted()).toEqual(ids.toSorted())
    expect(found.some(({ kind }) => kind === 'database-damaged')).toBe(length > 0)
    const fixed = await doctor(daemon, '--fix')
    expect(fixed.map(({ kind, outcome }) => [kind, outcome])).toEqual(found.map(({ kind }) => [kind, 'fixed']))
    expect(await doctor(daemon, '--fix')).toEqual([])

    await daemon.launch()
    await daemon.recovered()
    expect((await daemon.client.list()).map(({ state }) => state)).toEqual(Array(3).fill('SANDBOX_READY'))
    expect(await addresses()).toEqual(before)
    expect(await doctor(daemon)).toEqual([])
    await daemon.removeListed()
  })

  it('has the daemon do the same, beside all that it has to do', async () => {
    const daemon = await start()
    const other = await neighbour(daemon)
    const otherPod = await other.run(plainPod(other))
    const [healthy, flipped, tampered] = [await daemon.run(), await daemon.run(), await daemon.run()]
    await daemon.kill9()
    const db = new Database(daemon.database)
    db.prepare('UPDATE sandboxes SET metadata = replace(metadata, \'"test"\', \'"tesu"\') WHERE id = ?').run(tampered)
    db.close()
    await flipByte(join(daemon.dir, 'root', 'sandboxes', flipped, 'checkpoint.json'))
    await daemon.restart()
    const readyBefore = (await daemon.client.list()).filter(({ state }) => state === 'SANDBOX_READY')
    expect(readyBefore.map(({ id }) => id)).toEqual([healthy])
    const seeded = [
      ...(await seedOrphans(daemon, healthy)),
      ['checkpoint-damaged', join(daemon.dir, 'root', 'sandboxes', flipped, 'checkpoint.json')],
      ['row-damaged', `row of ${tampered}`],
    ]
    const foreign = await seedForeign(daemon)

    const found = await doctor(daemon)
    const pairs = found.map(({ kind, subject }) => [kind, subject])
    for (const pair of seeded) expect(pairs).toContainEqual(pair)
    for (const id of [FOREIGN, otherPod, healthy]) expect(JSON.stringify(found)).not.toContain(id)

    // What is being made and removed meanwhile is neither found nor hurt.
    const busy = Promise.all(
      Array.from({ length: 4 }, async () => {
        const id = await daemon.run()
        await daemon.client.stop(id)
        await daemon.client.remove(id)
        return daemon.run()
      }),
    )
    const fixed = await doctor(daemon, '--fix')
    expect(fixed.filter(({ outcome }) => outcome !== 'fixed')).toEqual([])
    const made = await busy
    expect(fixed.filter(({ ownerId }) => made.includes(ownerId ?? ''))).toEqual([])
    expect(await doctor(daemon, '--fix')).toEqual([])
    expect(foreign.look()).toEqual([true, true, true, true])
    const ready = (await daemon.client.list()).filter(({ state }) => state === 'SANDBOX_READY').map(({ id }) => id)
    expect(ready.toSorted()).toEqual([healthy, flipped, tampered, ...made].toSorted())
    expect((await other.client.status(otherPod)).state).toBe('SANDBOX_READY')

    await daemon.restart()
    expect((await daemon.client.list()).map(({ state }) => state)).toEqual(Array(7).fill('SANDBOX_READY'))
    await foreign.clear()
    await daemon.removeListed()
    await other.removeListed()
  })

  it('looks after containers, and after what they stand on', async () => {
    const daemon = await start()
    const pod = await TestPod.run(daemon, 'crun', daemon.pod())
    const [left, killed, flipped] = [await pod.start(), await pod.start(), await pod.start()]
    const { pid } = await daemon.client.containers.info(killed)
    expect(await daemon.stop()).toBe(0)
    forget(daemon, left, 'containers')
    await rm(join(daemon.dir, 'root', 'containers', left), { recursive: true })
    process.kill(pid, 'SIGKILL')
    await expect.poll(() => existsSync(join(daemon.dir, 'state', 'exits', killed))).toBe(true)
    await flipByte(join(daemon.dir, 'root', 'containers', flipped, 'checkpoint.json'), '"imageId":"')
    const netns = join(daemon.dir, 'netns', `sbx-${pod.id}`)
    await run('/bin/umount', [netns], { timeoutMs: 10_000 })
    await rm(netns)

    const pairs = (await doctor(daemon)).map(({ kind, subject }) => [kind, subject])
    for (const pair of [
      ['orphan-mount', join(daemon.dir, 'state', 'containers', left, 'rootfs')],
      ['orphan-directory', join(daemon.dir, 'state', 'containers', left)],
      ['row-without-process', `process ${pid}`],
      ['checkpoint-damaged', join(daemon.dir, 'root', 'containers', flipped, 'checkpoint.json')],
      ['resource-missing', netns],
    ]) {
      expect(pairs).toContainEqual(pair)
    }
    expect(pairs.map(([kind]) => kind)).toContain('orphan-process')
    expect((await doctor(daemon, '--fix')).filter(({ outcome }) => outcome !== 'fixed')).toEqual([])
    expect(await doctor(daemon, '--fix')).toEqual([])

    await daemon.launch()
    await daemon.recovered()
    const states = (await daemon.client.containers.list()).map(({ id, state }) => `${id} ${state}`)
    expect(states.toSorted()).toEqual([`${flipped} CONTAINER_RUNNING`, `${killed} CONTAINER_EXITED`].toSorted())
    expect(await daemon.client.containers.status(killed)).toMatchObject({ exit_code: 137 })
    expect(await doctor(daemon)).toEqual([])
    await daemon.removeListed()
  })

  it.each(SHIM_HANDLERS)('ends a shim that nobody has (%s)', async (handler) => {
    const daemon = await start()
    const [healthy, left] = [await daemon.run(daemon.pod(), handler), await daemon.run(plainPod(daemon), handler)]
    await daemon.kill9()
    forget(daemon, left)
    await rm(join(daemon.dir, 'root', 'sandboxes', left), { recursive: true })
    const found = await doctor(daemon)
    expect(found.find(({ subject }) => /^shim \d+$/.test(subject))).toMatchObject({ ownerId: left })
    expect(JSON.stringify(found)).not.toContain(healthy)
    expect((await doctor(daemon, '--fix')).filter(({ outcome }) => outcome !== 'fixed')).toEqual([])
    expect(await doctor(daemon, '--fix')).toEqual([])
    await daemon.launch()
    await daemon.recovered()
    expect((await daemon.client.list()).map(({ id, state }) => [id, state])).toEqual([[healthy, 'SANDBOX_READY']])
    await daemon.removeListed()
  })

  it('only tells where a daemon has the node and does not answer', async () => {
    const daemon = await start()
    const exitPath = join(daemon.dir, 'state', 'exits', await ownId(daemon))
    await writeFile(exitPath, '0')
    process.kill(daemon.pid, 'SIGSTOP')
    try {
      const refused = await callDoctor(daemon, '--fix')
      expect(refused.exitCode).toBe(1)
      expect(refused.stderr).toMatch(/another sandboxerd uses this root directory/)
      const found = await doctor(daemon)
      expect(found.map(({ kind, subject, outcome }) => [kind, subject, outcome])).toEqual([
        ['orphan-file', exitPath, 'found'],
      ])
    } finally {
      process.kill(daemon.pid, 'SIGCONT')
    }
    expect((await doctor(daemon, '--fix')).map(({ outcome }) => outcome)).toEqual(['fixed'])
  })
})
