import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { status as grpc } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { sleep } from '../../../src/core/deadline.ts'
import { TaskConnections } from '../../../src/executor/task/task-services.ts'
import type { TaskService } from '../../../src/executor/task/types.ts'
import type { TaskEndpoint } from '../../../src/executor/types.ts'
import { loadShimApi } from '../../../src/grpc/load.ts'
import { commandLine, listPids, readStat } from '../../../src/host/process.ts'
import { containing } from '../../support/cni-plugins/containing.ts'
import { ownDaemons, sharedDaemon, type TestDaemon } from '../../support/daemon.ts'
import { findShim, findShimV2 } from '../../support/peers.ts'
import { namespaceOf } from '../../support/pod-facts.ts'
import { slowed } from '../../support/slowness.ts'
import { beforeAndAfter } from '../../support/steps.ts'
import { linuxWith } from '../../support/user-namespaces.ts'

const SHIMS = { v3: findShim(), v2: findShimV2() }
const RUNTIMES = { crun: '/usr/bin/crun', runc: '/usr/sbin/runc' }
const CASES = Object.entries(SHIMS).flatMap(([kind, shim]) =>
  Object.entries(RUNTIMES).map(([name, runtime]) => ({
    handler: `${name}-${kind}`,
    runtime,
    shim,
    version: kind.slice(1),
  })),
)
const HANDLERS = CASES.filter(({ shim }) => shim !== undefined)
const runtimes = {
  crun: { runtime: '/usr/bin/crun' },
  ...Object.fromEntries(
    HANDLERS.map(({ handler, runtime, shim }) => [handler, { runtime, runtime_type: shim }] as const),
  ),
}

const api = loadShimApi()
const services = new TaskConnections({}, { definition: api.containerd.task.v3.Task.service, messages: api.ttrpc })
const call = { timeoutMs: 10_000, signal: new AbortController().signal }

/** Pids of shims of this daemon's pod. */
function shimsOf(daemon: TestDaemon, id: string): number[] {
  return listPids().filter((pid) => {
    const args = commandLine(pid)
    return args.includes(id) && args.includes(join(daemon.dir, 'state', 'events.sock')) && readStat(pid)?.state !== 'Z'
  })
}

function isAlive(pid: number): boolean {
  const state = readStat(pid)?.state
  return state !== undefined && state !== 'Z'
}

function endpointOf(daemon: TestDaemon, id: string): TaskEndpoint {
  const file = join(daemon.dir, 'state', 'sandboxes', id, 'bootstrap.json')
  return JSON.parse(readFileSync(file, 'utf8')) as TaskEndpoint
}

/** A container in the shim of which only a front end knows: the pause's own bundle, in a cgroup of its own. */
async function foreignTask(
  daemon: TestDaemon,
  pod: string,
  task: string,
): Promise<{ service: TaskService; pid: number }> {
  const service = services.at(endpointOf(daemon, pod))
  const podBundle = join(daemon.dir, 'state', 'sandboxes', pod)
  const bundle = join(daemon.dir, 'bundles', task)
  mkdirSync(bundle, { recursive: true })
  const spec = JSON.parse(readFileSync(join(podBundle, 'config.json'), 'utf8')) as {
    linux: { cgroupsPath: string; namespaces: { type: string; path?: string }[] }
  }
  spec.linux.cgroupsPath = spec.linux.cgroupsPath.replace(pod, task)
  const pause = (await daemon.client.info(pod)).pid
  spec.linux.namespaces = spec.linux.namespaces.map((namespace) =>
    ['ipc', 'uts'].includes(namespace.type) ? { ...namespace, path: `/proc/${pause}/ns/${namespace.type}` } : namespace,
  )
  writeFileSync(join(bundle, 'config.json'), JSON.stringify({ ...spec, hostname: undefined }))
  const { Options } = api.containerd.runc.v1
  const { runtime, handler } = HANDLERS.find((one) => daemonHandler.get(pod) === one.handler) ?? {
    runtime: '',
    handler: '',
  }
  const root = join(daemon.dir, 'state', 'runtime', handler)
  const options = { type_url: 'containerd.runc.v1.Options', value: Options.serialize({ binary_name: runtime, root }) }
  await service.create({ id: task, bundle, options }, call)
  const { pid } = await service.start({ id: task }, call)
  return { service, pid }
}

/** Which handler runs a pod, for {@link foreignTask}. */
const daemonHandler = new Map<string, string>()

async function run(daemon: TestDaemon, handler: string, config = daemon.pod()): Promise<string> {
  const id = await daemon.run(config, handler)
  daemonHandler.set(id, handler)
  return id
}

describe.skipIf(HANDLERS.length === 0)('pods that containerd shims run', () => {
  const daemon = sharedDaemon({ config: { runtimes } })
  const isOver = async (id: string): Promise<void> => {
    await expect.poll(async () => (await daemon().client.status(id)).state, { timeout: 5000 }).toBe('SANDBOX_NOTREADY')
  }

  describe.each(HANDLERS)('with $handler', ({ handler, version }) => {
    it('begin, are seen, end and leave nothing', async () => {
      const { client } = daemon()
      const id = await run(daemon(), handler)
      expect((await client.status(id)).state).toBe('SANDBOX_READY')
      const { pid, netnsPath } = await client.info(id)
      const endpoint = endpointOf(daemon(), id)
      expect(endpoint.version).toBe(Number(version))
      for (const kind of ['pid', 'ipc', 'uts', 'net'] as const) {
        expect(namespaceOf(pid, kind)).not.toBe(namespaceOf('self', kind))
      }
      expect(netnsPath).not.toBe('')
      const [shim = 0] = shimsOf(daemon(), id)
      expect(readStat(pid)?.parentPid).toBe(shim)
      await client.stop(id)
      expect(isAlive(pid)).toBe(false)
      expect(shimsOf(daemon(), id)).toEqual([])
      expect((await client.info(id)).exit).toMatchObject({ code: 0, reason: 'Exited' })
      expect(existsSync(endpoint.address.replace('ttrpc+unix://', ''))).toBe(false)
      await client.remove(id)
    })

    it('end with their pause process, whose status is the shim’s to tell', async () => {
      const id = await run(daemon(), handler)
      process.kill((await daemon().client.info(id)).pid, 'SIGKILL')
      await isOver(id)
      expect((await daemon().client.info(id)).exit).toMatchObject({ code: 137, reason: 'Exited' })
    })

    it('end when their shim is killed, with all that was in them', async () => {
      const id = await run(daemon(), handler)
      const { pid } = await daemon().client.info(id)
      const foreign = await foreignTask(daemon(), id, `${id.slice(0, 56)}aaaaaaaa`)
      for (const shim of shimsOf(daemon(), id)) process.kill(shim, 'SIGKILL')
      await isOver(id)
      expect((await daemon().client.info(id)).exit).toMatchObject({ code: 255, reason: 'Unknown' })
      expect([pid, foreign.pid].map(isAlive)).toEqual([false, false])
    })

    it('take the tasks of others with them when they are stopped', async () => {
      const id = await run(daemon(), handler)
      const task = `${id.slice(0, 56)}bbbbbbbb`
      const foreign = await foreignTask(daemon(), id, task)
      expect((await foreign.service.state({ id: task }, call)).status).toBe('RUNNING')
      await daemon().client.stop(id)
      expect(isAlive(foreign.pid)).toBe(false)
      expect(shimsOf(daemon(), id)).toEqual([])
    })

    it('take with them what of others has ended and was never deleted', async () => {
      const id = await run(daemon(), handler)
      const task = `${id.slice(0, 56)}dddddddd`
      const foreign = await foreignTask(daemon(), id, task)
      process.kill(foreign.pid, 'SIGKILL')
      await foreign.service.wait({ id: task }, call)
      await daemon().client.stop(id)
      expect(shimsOf(daemon(), id)).toEqual([])
    })

    // runc 1.1 has no user namespaces of this kind.
    it.runIf(handler.startsWith('crun'))('leave the node’s /dev/null alone in a user namespace', async () => {
      const before = statSync('/dev/null')
      await run(daemon(), handler, { ...daemon().pod(), linux: linuxWith(daemon()) })
      expect(statSync('/dev/null')).toMatchObject({ uid: before.uid, gid: before.gid, mode: before.mode })
    })

    it('are not hurt by a restart of the daemon, and what happened meanwhile is told', async () => {
      const { client } = daemon()
      const [whole, paused, shimless] = [
        await run(daemon(), handler),
        await run(daemon(), handler),
        await run(daemon(), handler),
      ]
      const before = await client.info(whole)
      const { pid } = await client.info(paused)
      await daemon().kill9()
      process.kill(pid, 'SIGKILL')
      for (const shim of shimsOf(daemon(), shimless)) process.kill(shim, 'SIGKILL')
      await daemon().restart()
      const after = await daemon().client.info(whole)
      expect(after).toMatchObject({ state: 'RUNNING', pid: before.pid })
      expect((await daemon().client.info(paused)).exit).toMatchObject({ code: 137, reason: 'Exited' })
      expect((await daemon().client.info(shimless)).exit).toMatchObject({ code: 255, reason: 'Unknown' })
      process.kill(before.pid, 'SIGKILL')
      await isOver(whole)
    })

    it('outlive a connection that is lost', async () => {
      const id = await run(daemon(), handler)
      const [shim = 0] = shimsOf(daemon(), id)
      // A shim that is stopped answers nobody; one that goes on has lost nothing.
      process.kill(shim, 'SIGSTOP')
      await daemon().restart()
      process.kill(shim, 'SIGCONT')
      expect((await daemon().client.status(id)).state).toBe('SANDBOX_READY')
      process.kill((await daemon().client.info(id)).pid, 'SIGKILL')
      await isOver(id)
      expect((await daemon().client.info(id)).exit).toMatchObject({ code: 137 })
    })
  })

  it('are cleared up when the database and their checkpoint are lost', async () => {
    // Which of a cgroup's parents were made for it, nobody knows any more.
    const config = { ...daemon().pod(), linux: { cgroup_parent: '' } }
    const id = await run(daemon(), HANDLERS[0]?.handler ?? '', config)
    await daemon().kill9()
    const root = join(daemon().dir, 'root')
    for (const name of readdirSync(root)) if (name.startsWith('sandboxerd.db')) rmSync(join(root, name))
    rmSync(join(root, 'sandboxes', id, 'checkpoint.json'))
    await daemon().restart()
    expect((await daemon().client.list()).map((pod) => pod.id)).toEqual([id])
    await daemon().client.stop(id)
    expect(shimsOf(daemon(), id)).toEqual([])
  })

  it(
    'are stopped and removed when their shim does not answer',
    async () => {
      const id = await run(daemon(), HANDLERS[0]?.handler ?? '')
      const foreign = await foreignTask(daemon(), id, `${id.slice(0, 56)}cccccccc`)
      for (const shim of shimsOf(daemon(), id)) process.kill(shim, 'SIGSTOP')
      await daemon().client.stop(id)
      expect(shimsOf(daemon(), id)).toEqual([])
      expect(isAlive(foreign.pid)).toBe(false)
    },
    slowed(60_000),
  )
})

describe.skipIf(HANDLERS.length === 0)('kill -9 while a shim is started', () => {
  const start = ownDaemons()
  const POINTS = beforeAndAfter('run', ['createController', 'startController', 'save'])

  it.each(POINTS)('at %s leaves nothing', async (point) => {
    const [{ handler } = { handler: '' }] = HANDLERS
    const daemon = await start({ failpoints: `${point}=kill`, config: { runtimes } })
    await Promise.allSettled([daemon.client.run(daemon.pod(), handler)])
    await daemon.ended()
    await daemon.restart()
    await daemon.removeListed()
    await daemon.expectNothingLeft()
  })

  it('between its start and the note of it leaves nothing', async () => {
    const [{ shim = '' } = {}] = HANDLERS
    const daemon = await start({
      config: ({ dir }) => ({
        runtimes: {
          crun: { runtime: '/usr/bin/crun' },
          slow: { runtime: '/usr/bin/crun', runtime_type: slowShim(dir, shim) },
        },
      }),
    })
    const outcome = Promise.allSettled([daemon.client.run(daemon.pod(), 'slow')])
    await expect.poll(() => existsSync(join(daemon.dir, 'shim-started'))).toBe(true)
    await daemon.kill9()
    await outcome
    await daemon.restart()
    await daemon.removeListed()
    await daemon.expectNothingLeft()
  })
})

describe.skipIf(HANDLERS.length === 0)('shims that are kept ready', () => {
  const start = ownDaemons()
  const config = { runtimes, shims: { warm: 1 } }
  const [{ handler } = { handler: '' }] = HANDLERS

  function ready(daemon: TestDaemon): number[] {
    const owner = join(daemon.dir, 'state', 'events.sock')
    return listPids().filter((pid) => {
      const args = commandLine(pid)
      const name = args.find((arg) => arg.startsWith('warm-')) ?? ''
      if (!args.includes(owner) || args.includes('start') || name === '' || !isAlive(pid)) return false
      return !existsSync(join(daemon.dir, 'state', 'shims', name, 'task'))
    })
  }

  /** Returns when one is ready, as after the first pod. */
  async function readied(daemon: TestDaemon): Promise<number> {
    await expect.poll(() => ready(daemon).length, { timeout: 5000 }).toBe(1)
    // The last thing that happens before it is.
    await sleep(300)
    return ready(daemon)[0] ?? 0
  }

  async function shimOf(daemon: TestDaemon, id: string): Promise<number> {
    return readStat((await daemon.client.info(id)).pid)?.parentPid ?? 0
  }

  it('are taken by the next pod, and live and end with it', async () => {
    const daemon = await start({ config })
    await daemon.run(daemon.pod(), handler)
    const warm = await readied(daemon)
    const id = await daemon.run(daemon.pod(), handler)
    expect(await shimOf(daemon, id)).toBe(warm)
    await daemon.restart()
    expect(await daemon.client.info(id)).toMatchObject({ state: 'RUNNING' })
    process.kill((await daemon.client.info(id)).pid, 'SIGKILL')
    await expect.poll(async () => (await daemon.client.status(id)).state).toBe('SANDBOX_NOTREADY')
    expect((await daemon.client.info(id)).exit).toMatchObject({ code: 137 })
    await daemon.removeListed()
    expect(isAlive(warm)).toBe(false)
    expect(await daemon.stop()).toBe(0)
    await daemon.expectNothingLeft()
  })

  it('end with the daemon, and with the next one when it was killed', async () => {
    const daemon = await start({ config })
    const id = await daemon.run(daemon.pod(), handler)
    const first = await readied(daemon)
    await daemon.restart()
    await expect.poll(() => isAlive(first), { timeout: 5000 }).toBe(false)
    expect((await daemon.client.status(id)).state).toBe('SANDBOX_READY')
    await daemon.run(daemon.pod(), handler)
    const second = await readied(daemon)
    await daemon.removeListed()
    expect(await daemon.stop()).toBe(0)
    expect(isAlive(second)).toBe(false)
    await daemon.expectNothingLeft()
  })

  it('are done without when they have died', async () => {
    const daemon = await start({ config })
    await daemon.run(daemon.pod(), handler)
    process.kill(await readied(daemon), 'SIGKILL')
    const id = await daemon.run(daemon.pod(), handler)
    expect((await daemon.client.status(id)).state).toBe('SANDBOX_READY')
    await daemon.removeListed()
    expect(await daemon.stop()).toBe(0)
    await daemon.expectNothingLeft()
  })

  it.each(beforeAndAfter('run', ['recordIntent', 'createController', 'startController']))(
    'leave nothing when the daemon dies at %s',
    async (point) => {
      const daemon = await start({ config, failpoints: `${point}=delay(1500)` })
      await daemon.run(daemon.pod(), handler)
      await daemon.removeListed()
      await readied(daemon)
      const outcome = Promise.allSettled([daemon.client.run(daemon.pod(), handler)])
      await sleep(700)
      await daemon.kill9()
      await outcome
      await daemon.restart()
      await daemon.removeListed()
      expect(await daemon.stop()).toBe(0)
      await daemon.expectNothingLeft()
    },
  )
})

describe('a shim that is none', () => {
  const scripts: readonly (readonly [name: string, script: string, why: string])[] = [
    ['prints nonsense', 'echo nonsense', 'printed no address that can be spoken to'],
    ['speaks version 9', `echo '{"version":9,"address":"unix:///a","protocol":"ttrpc"}'`, 'version 9, and 2 and 3 are'],
    ['fails', 'echo no luck >&2; exit 1', 'no luck'],
    ['names a place where nobody is', `echo '{"version":3,"address":"unix:///no/such","protocol":"ttrpc"}'`, 'ENOENT'],
  ]
  const bad = (dir: string) =>
    Object.fromEntries(
      scripts.map(([, script], index) => {
        const path = join(dir, 'bin', `containerd-shim-bad${index}-v1`)
        writeFileSync(path, `#!/bin/sh\nfor last; do :; done\n[ "$last" = start ] || exit 0\n${script}\n`, {
          mode: 0o755,
        })
        return [`bad${index}`, { runtime: '/usr/bin/crun', runtime_type: path }]
      }),
    )
  const daemon = sharedDaemon({
    config: ({ dir }) => ({ runtimes: { crun: { runtime: '/usr/bin/crun' }, ...bad(dir) } }),
  })
  afterEach(async () => expect(await daemon().client.list()).toEqual([]))

  it.each(scripts)('and %s fails the pod with its words, and leaves nothing', async (name, _script, why) => {
    const handler = `bad${scripts.findIndex(([other]) => other === name)}`
    await expect(daemon().client.run(daemon().pod(), handler)).rejects.toMatchObject({ details: containing(why) })
  })

  it('and is gone fails the pod before anything is made', async () => {
    rmSync(join(daemon().dir, 'bin', 'containerd-shim-bad0-v1'))
    const run = daemon().client.run(daemon().pod(), 'bad0')
    await expect(run).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION, details: containing('no such program') })
  })
})

/** The real one, which says that it has started, and then takes its time to tell where. */
function slowShim(dir: string, shim: string): string {
  const path = join(dir, 'bin', 'containerd-shim-slow-v1')
  const script = `for last; do :; done\n[ "$last" = start ] || exec ${shim} "$@"\n${shim} "$@" > ${dir}/answer && touch ${dir}/shim-started\nsleep 2\ncat ${dir}/answer\n`
  writeFileSync(path, `#!/bin/sh\n${script}`, { mode: 0o755 })
  return path
}
