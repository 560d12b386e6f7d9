import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { chmod, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parse, stringify } from 'smol-toml'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CriClient } from '../../support/cri-client.ts'
import { bridgeNetwork, TestDaemon } from '../../support/daemon.ts'
import { HeldSocket } from '../../support/held-socket.ts'
import { NotifyReceiver } from '../../support/notify-receiver.ts'

// The daemon under a service manager: a parent that holds its sockets, is told how it is, and waits for signs of life.

let daemon: TestDaemon
let manager: NotifyReceiver
let sockets: readonly HeldSocket[]

beforeEach(async () => {
  daemon = await TestDaemon.prepare()
  manager = new NotifyReceiver(join(daemon.dir, 'notify'))
  sockets = ['cri.sock', 'sandboxer.sock'].map((name) => new HeldSocket(join(daemon.dir, name)))
  const variables = { LISTEN_FDS: '2', LISTEN_FDNAMES: 's:s', NOTIFY_SOCKET: manager.address, WATCHDOG_USEC: '400000' }
  daemon.service = { env: variables, fds: sockets.map(({ fd }) => fd) }
})
afterEach(async () => {
  try {
    if (daemon.isRunning) {
      await daemon.removeListed()
      await daemon.expectNothingLeft()
    }
  } finally {
    await daemon[Symbol.asyncDispose]()
    for (const item of [manager, ...sockets]) item[Symbol.dispose]()
  }
})

describe('sockets that the service manager holds', () => {
  it('keep requests waiting over a restart and a kill, and keep their files', async () => {
    const [criSocket] = sockets
    await chmod(criSocket?.path ?? '', 0o600)
    const early = new CriClient(criSocket?.path ?? '')
    const waiting = early.version({ timeoutMs: 20_000 })
    await daemon.launch()
    expect(await waiting).toBe('sandboxerd')
    const id = await daemon.run()

    expect(await daemon.stop()).toBe(0)
    const afterStop = early.list()
    await sleep(100)
    await daemon.launch()
    expect((await afterStop).map((pod) => pod.id)).toEqual([id])

    await daemon.kill9()
    using late = new CriClient(criSocket?.path ?? '')
    const afterKill = late.list()
    await sleep(100)
    await daemon.launch()
    expect((await afterKill).map((pod) => pod.id)).toEqual([id])
    expect(statSync(criSocket?.path ?? '').mode & 0o777).toBe(0o600)
    early[Symbol.dispose]()
  })

  it('are refused when they are none of the configuration', async () => {
    using other = new HeldSocket(join(daemon.dir, 'other.sock'))
    daemon.service = { env: { LISTEN_FDS: '1' }, fds: [other.fd] }
    await expect(daemon.launch()).rejects.toThrow(`use the socket ${other.path} of the service manager`)
    expect(await daemon.ended()).toMatchObject({ code: 1 })
  })
})

describe('the service manager', () => {
  it('is told when the daemon serves, how the pods are, and that it stops', async () => {
    daemon.spawn()
    await manager.told('READY=1')
    // It served before it said so.
    await daemon.logged('"msg":"serving"')
    await daemon.stop()
    await daemon.launch()
    await daemon.run()
    await manager.told('STATUS=1 pod runs')
    await daemon.stop()
    expect(manager.count('STOPPING=1')).toBe(2)
    await daemon.launch()
    await manager.told('STATUS=1 pod runs', 2)
    expect(manager.count('EXTEND_TIMEOUT_USEC=')).toBeGreaterThan(0)
  })

  it('gives nothing that pods and their monitors would inherit', async () => {
    await daemon.launch()
    const id = await daemon.run()
    const { pid } = await daemon.client.info(id)
    const inodes = new Set(sockets.map(({ fd }) => readlinkSync(`/proc/self/fd/${fd}`)))
    const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? ''
    for (const found of [String(pid), parent]) {
      expect(readFileSync(`/proc/${found}/environ`, 'utf8')).not.toMatch(/NOTIFY_SOCKET|LISTEN_|WATCHDOG_/)
      const fds = readdirSync(`/proc/${found}/fd`).map((fd) => readlinkSync(`/proc/${found}/fd/${fd}`))
      expect(fds.filter((target) => inodes.has(target))).toEqual([])
    }
  })

  it('gets signs of life while the event loop turns, also without any network, and none while it does not', async () => {
    await rm(join(daemon.confDir, '10-test.conflist'))
    await daemon.launch()
    await manager.told('WATCHDOG=1', 3)
    expect((await daemon.client.condition('RuntimeReady')).status).toBe(true)
    expect((await daemon.client.condition('NetworkReady')).status).toBe(false)
    process.kill(daemon.pid, 'SIGSTOP')
    await sleep(100)
    const before = manager.count('WATCHDOG=1')
    await sleep(1500)
    expect(manager.count('WATCHDOG=1')).toBe(before)
    process.kill(daemon.pid, 'SIGCONT')
    await manager.told('WATCHDOG=1', before + 2)
    await daemon.logged('"msg":"the event loop was blocked"')
  })
})

describe('SIGHUP', () => {
  const configFile = (): string => join(daemon.dir, 'config.toml')

  async function reload(config: string): Promise<void> {
    const before = manager.count('READY=1')
    await writeFile(configFile(), config)
    process.kill(daemon.pid, 'SIGHUP')
    await manager.told('READY=1', before + 1)
  }

  it('applies what can be applied, and tells what needs a restart', async () => {
    await daemon.launch()
    const config = parse(readFileSync(configFile(), 'utf8')) as Record<string, Record<string, unknown>>
    const runtimes = { ...config['runtimes'], fresh: { runtime: '/usr/bin/crun', sandboxer: 'pinned' } }
    await daemon.writeNetwork('05-first.conflist', bridgeNetwork(daemon, { name: 'first' }))
    await reload(stringify({ ...config, runtimes, log: { level: 'debug' }, timeouts: { cni: 30 } }))
    await manager.told('RELOADING=1')
    await daemon.logged('"msg":"configuration reloaded"')
    expect(daemon.logs()).toContain('"needRestart":["timeouts.cni"]')
    await manager.told('STATUS=0 pods run; a restart is needed for timeouts.cni')
    await daemon.run(daemon.pod(), 'fresh')
    const { runtime_handlers: handlers } = await daemon.client.nodeStatus()
    expect(handlers.map(({ name }) => name)).toContain('fresh')
    expect(daemon.logs()).toContain('"level":"debug"')

    await reload(stringify(config))
    await expect(daemon.run(daemon.pod(), 'fresh')).rejects.toThrow('fresh')
  })

  it('changes nothing when the file cannot be used, and says which key is wrong', async () => {
    await daemon.launch()
    await reload('[log]\nlevel = "debug"\n[timeouts]\ndrain = "x"')
    const why = 'timeouts.drain: must be a number, not a string'
    await manager.told('STATUS=0 pods run; the configuration was not reloaded')
    await daemon.logged(why)
    expect(manager.messages().filter((message) => message.includes(why))).toHaveLength(1)
    expect(daemon.logs()).not.toContain('"level":"debug"')
    await daemon.run()
  })
})
