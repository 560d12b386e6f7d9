import { mkdtemp, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { DEFAULT_PATH } from '../../src/host/programs/outcome.ts'
import { TestDaemon } from './daemon.ts'
import { KuasarSandboxer } from './kuasar-sandboxer.ts'

/** A remote sandboxer that tests kill and start again, and the daemon whose handler `far` is run by it. */
export interface Driven extends AsyncDisposable {
  readonly daemon: TestDaemon
  /** Whether commands have to be announced to it before they can be run. */
  readonly wantsAnnouncements: boolean
  /** The sandboxer goes away at once, as by SIGKILL. */
  killPeer(): Promise<void>
  startPeer(): Promise<void>
  /** The process that holds the namespaces of a pod. */
  pausePid(id: string): Promise<number>
  /** @throws Error when anything is left of any pod, on either side. */
  expectNothingLeft(): Promise<void>
}

export type MakeDriven = (shim: string) => Promise<Driven>

/** Another sandboxerd, in a process of its own. */
export const drivenSandboxerd: MakeDriven = async (shim) => {
  const peer = await TestDaemon.start()
  const daemon = await startDaemon(peer.node, join(peer.dir, 'sandboxer.sock'), shim)
  peer.peers.add(daemon.pid)
  return {
    daemon,
    wantsAnnouncements: false,
    killPeer: () => peer.kill9(),
    startPeer: () => peer.launch(),
    pausePid: async (id) => (await daemon.client.info(id)).pid,
    expectNothingLeft: async () => {
      if (!peer.isRunning) await peer.launch()
      await daemon.expectNothingLeft()
      await peer.expectNothingLeft()
    },
    async [Symbol.asyncDispose]() {
      await daemon[Symbol.asyncDispose]()
      await peer[Symbol.asyncDispose]()
    },
  }
}

/** A double of Kuasar's sandboxers. */
export const drivenKuasar: MakeDriven = async (shim) => {
  const dir = await mkdtemp('/tmp/kua-')
  const daemon = await startDaemon(undefined, join(dir, 'k.sock'), shim)
  const searchPath = `${dirname(shim)}:${DEFAULT_PATH}`
  const peer = await KuasarSandboxer.start({
    dir,
    shim,
    searchPath,
    eventsAddress: join(daemon.dir, 'state/events.sock'),
  })
  return {
    daemon,
    wantsAnnouncements: true,
    killPeer: () => peer.close(),
    startPeer: () => peer.listen(),
    pausePid: async (id) => peer.sandboxes.get(id)?.holderPid ?? 0,
    expectNothingLeft: async () => {
      await daemon.expectNothingLeft()
      const left = [...peer.sandboxes.keys()]
      if (left.length > 0) throw new Error(`left at the sandboxer: ${left.join(', ')}`)
    },
    async [Symbol.asyncDispose]() {
      await daemon[Symbol.asyncDispose]()
      await peer[Symbol.asyncDispose]()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

async function startDaemon(node: string | undefined, socket: string, shim: string): Promise<TestDaemon> {
  const config = {
    sandboxers: { far: { address: `unix://${socket}`, unreachable_grace: 2 } },
    runtimes: { far: { runtime: '/usr/bin/crun', runtime_type: shim, sandboxer: 'far' } },
    timeouts: { remote: 5, stop_grace: 2 },
  }
  return TestDaemon.start({ ...(node === undefined ? {} : { node }), config })
}
