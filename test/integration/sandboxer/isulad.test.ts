import { readFileSync, readlinkSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { makeBusyboxRoot } from '../../support/busybox-root.ts'
import { ownDaemons, type TestDaemon } from '../../support/daemon.ts'
import { IsuladClient, type IsuladPod } from '../../support/isulad-client.ts'
import type { IsuladContainer } from '../../support/isulad-container.ts'
import { findShimV2 } from '../../support/peers.ts'
import { eventually } from '../../support/pod-facts.ts'

const SANDBOXER = 'sandboxerd'
const UNKNOWN = 'f'.repeat(64)
const shim = findShimV2()
const startDaemon = ownDaemons()

interface Node {
  readonly daemon: TestDaemon
  readonly isulad: IsuladClient
  /** Of containers, on this node. */
  readonly rootfs: string
}

const clients: IsuladClient[] = []
const containers: IsuladContainer[] = []
afterEach(async () => {
  for (const container of containers.splice(0)) container.close()
  for (const client of clients.splice(0)) await client[Symbol.asyncDispose]()
})

async function setUp(): Promise<Node> {
  const daemon = await startDaemon({
    config: {
      runtimes: { served: { runtime_type: shim ?? '', runtime: '/usr/sbin/runc' } },
      sandboxer: { runtime_handler: 'served' },
    },
  })
  const dir = join(daemon.dir, 'isulad')
  await mkdir(dir)
  return { daemon, isulad: startIsulad(daemon), rootfs: await makeBusyboxRoot(join(dir, 'rootfs')) }
}

function startIsulad(daemon: TestDaemon, pods: readonly IsuladPod[] = []): IsuladClient {
  const { dir, cgroupParent } = daemon
  const options = { address: join(dir, 'sandboxer.sock'), dir: join(dir, 'isulad'), sandboxer: SANDBOXER, probeMs: 100 }
  const client = new IsuladClient({ ...options, cgroupParent }, pods)
  clients.push(client)
  return client
}

async function runPod({ daemon, isulad }: Node): Promise<IsuladPod> {
  const pod = await isulad.runPod(daemon.pod({ hostname: 'web' }))
  daemon.track(pod.id)
  return pod
}

async function start({ isulad, rootfs }: Node, pod: IsuladPod, ...args: string[]): Promise<IsuladContainer> {
  const container = await isulad.createContainer(pod, rootfs, args)
  containers.push(container)
  await container.start()
  return container
}

async function becomes(pod: IsuladPod, state: IsuladPod['state']): Promise<void> {
  const seen = await eventually(
    async () => pod.state,
    (found) => found === state,
    15_000,
  )
  expect(seen).toBe(state)
}

async function removeAll({ isulad }: Node): Promise<void> {
  for (const id of isulad.pods.keys()) {
    await isulad.stopPod(id)
    await isulad.removePod(id)
  }
}

describe.skipIf(shim === undefined)('iSulad, whose sandboxer this is', () => {
  it('runs a pod with containers, and removes it', async () => {
    const node = await setUp()
    const pod = await runPod(node)
    expect(pod.address).toMatch(/^ttrpc\+unix:\/\//)
    expect(readlinkSync(`/proc/${pod.pid}/ns/net`)).toBe(netnsOf(pod))

    const first = await start(node, pod, 'sh', '-c', 'hostname; trap "exit 7" TERM; while :; do sleep 0.1; done')
    const second = await start(node, pod, 'sh', '-c', 'echo done; exit 3')
    expect(await second.wait()).toBe(3)
    expect(await second.output()).toBe('done\n')
    await second.remove()

    // The Shutdown that came with it has not ended the Task service of the first one.
    expect(await first.state()).toBe('RUNNING')
    expect(await first.exec(['sh', '-c', 'exit 5'])).toBe(5)
    expect(readlinkSync(`/proc/${(await first.pids())[0]}/ns/uts`)).toBe(readlinkSync(`/proc/${pod.pid}/ns/uts`))
    expect(await first.stop(10_000)).toBe(7)
    expect(await first.output()).toBe('web\n')
    await first.remove()

    await node.isulad.stopPod(pod.id)
    await becomes(pod, 'stopped')
    await node.isulad.removePod(pod.id)
  })

  it('finds its pods and containers as they were after a restart of ours, and after a crash', async () => {
    const node = await setUp()
    const pod = await runPod(node)
    const container = await start(node, pod, 'sleep', '1000')
    const exit = container.wait()
    for (const end of [() => node.daemon.stop(), () => node.daemon.kill9()]) {
      await end()
      await becomes(pod, 'pending')
      // It asks every so often, and waits again when it is answered.
      await node.daemon.launch()
      await becomes(pod, 'ready')
    }
    expect(node.isulad.calls.filter((call) => call === 'Platform').length).toBeGreaterThan(1)
    expect(await container.state()).toBe('RUNNING')
    expect(await container.exec(['true'])).toBe(0)
    const another = await start(node, pod, 'sh', '-c', 'exit 4')
    expect(await another.wait()).toBe(4)
    await another.remove()
    expect(await container.stop(100)).toBe(137)
    expect(await exit).toBe(137)
    await container.remove()
    await removeAll(node)
  })

  it('is restarted, and takes on its pods', async () => {
    const node = await setUp()
    const [runs, ended] = [await runPod(node), await runPod(node)]
    process.kill(ended.pid, 'SIGKILL')
    await becomes(ended, 'stopped')
    await node.isulad[Symbol.asyncDispose]()
    const isulad = startIsulad(node.daemon, [...node.isulad.pods.values()])
    ended.state = 'ready'
    await isulad.recover()
    expect([runs.state, ended.state]).toEqual(['ready', 'stopped'])
    const container = await start({ ...node, isulad }, runs, 'true')
    expect(await container.wait()).toBe(0)
    await container.remove()
    await removeAll({ ...node, isulad })
  })

  it('is told that the process of a pod was killed, and still removes its containers', async () => {
    const node = await setUp()
    const pod = await runPod(node)
    const container = await start(node, pod, 'sleep', '1000')
    process.kill(pod.pid, 'SIGKILL')
    await becomes(pod, 'stopped')
    expect(pod.exit).toBe(137)
    expect(await container.stop(100)).toBe(137)
    await container.remove()
    await removeAll(node)
  })

  it('removes a pod whose containers it has forgotten', async () => {
    const node = await setUp()
    const pod = await runPod(node)
    const container = await start(node, pod, 'sleep', '1000')
    const [pid] = await container.pids()
    container.close()
    await removeAll(node)
    await eventually(
      async () => readProcess(pid ?? 0),
      (found) => found === '',
    )
  })

  it('may stop and remove what nobody knows, and ask for the platform of it', async () => {
    const node = await setUp()
    await node.isulad.stopPod(UNKNOWN)
    await node.isulad.removePod(UNKNOWN)
    const pod = await runPod(node)
    await removeAll(node)
    await node.isulad.stopPod(pod.id)
    await node.isulad.removePod(pod.id)
  })
})

function netnsOf({ netns }: IsuladPod): string {
  const mounted = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((line) => line.includes(`/netns/${netns} `))
  return mounted?.split(' ')[3] ?? ''
}

function readProcess(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}
