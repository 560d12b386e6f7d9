import { chmod, copyFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { containing } from '../support/cni-plugins/containing.ts'
import { bridgeNetwork, ownDaemons, type TestDaemon } from '../support/daemon.ts'
import { processes } from '../support/machine.ts'
import { slowed } from '../support/slowness.ts'

const start = ownDaemons()

async function script(daemon: { readonly dir: string }, name: string, body: string): Promise<void> {
  const path = join(daemon.dir, 'bin', name)
  await writeFile(path, `#!/bin/sh\n${body}\n`)
  await chmod(path, 0o755)
}

/** A network whose last plugin does what the files beside it say: `COMMAND.fail`, `COMMAND.hang`. */
async function troubledDaemon(config: object = {}): Promise<TestDaemon> {
  const daemon = await start({
    config: { timeouts: { stop_grace: 2, ...config } },
    networks: (own) => ({ '10-trouble.conflist': bridgeNetwork(own, { more: [{ type: 'trouble' }] }) }),
  })
  // The previous result is passed on as it came.
  await script(
    daemon,
    'trouble',
    `here=$(dirname "$0")
[ "$CNI_COMMAND" = VERSION ] && { echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}'; exit 0; }
[ -e "$here/$CNI_COMMAND.hang" ] && exec sleep 1000
if [ -e "$here/$CNI_COMMAND.fail" ]; then echo '{"cniVersion":"1.0.0","code":11,"msg":"no luck"}'; exit 1; fi
[ "$CNI_COMMAND" = ADD ] && exec jq .prevResult
exit 0`,
  )
  await expect.poll(async () => (await daemon.client.condition('NetworkReady')).status, { timeout: 15_000 }).toBe(true)
  return daemon
}

const flag = async (daemon: TestDaemon, name: string): Promise<void> => writeFile(join(daemon.dir, 'bin', name), '')
const unflag = async (daemon: TestDaemon, name: string): Promise<void> => rm(join(daemon.dir, 'bin', name))

describe('an OCI runtime that is gone', () => {
  it('fails RunPodSandbox, and hinders neither Stop nor Remove of pods it made', async () => {
    const daemon = await start({
      networks: (own) => ({ '10-test.conflist': bridgeNetwork(own) }),
      config: { runtimes: { mine: { runtime: '/tmp/sbx-runtime-of-tests', sandboxer: 'shim' } } },
    })
    await copyFile('/usr/bin/crun', '/tmp/sbx-runtime-of-tests')
    try {
      await chmod('/tmp/sbx-runtime-of-tests', 0o755)
      const id = await daemon.run(daemon.pod(), 'mine')
      await rm('/tmp/sbx-runtime-of-tests')
      await expect(daemon.run(daemon.pod(), 'mine')).rejects.toMatchObject({
        details: containing('/tmp/sbx-runtime-of-tests'),
      })
      expect((await daemon.client.list()).map((pod) => pod.id)).toEqual([id])
      await daemon.restart()
      expect((await daemon.client.status(id)).state).toBe('SANDBOX_READY')
      await daemon.removeListed()
    } finally {
      await rm('/tmp/sbx-runtime-of-tests', { force: true })
    }
  })
})

describe('a monitor that is gone', () => {
  it('fails RunPodSandbox, and the node says so', async () => {
    const daemon = await start({ config: { conmon: { path: '/nonexistent/conmon' } } })
    expect(await daemon.client.condition('RuntimeReady')).toMatchObject({
      status: false,
      message: containing('conmon'),
    })
    await expect(daemon.run()).rejects.toMatchObject({ details: containing('/nonexistent/conmon') })
    expect(await daemon.client.list()).toEqual([])
  })
})

describe('a CNI plugin', () => {
  it('that fails at ADD fails RunPodSandbox, and nothing is left', async () => {
    const daemon = await troubledDaemon()
    await flag(daemon, 'ADD.fail')
    const config = daemon.pod()
    await expect(daemon.run(config)).rejects.toMatchObject({ details: containing('no luck') })
    expect(await daemon.client.list()).toEqual([])
    await daemon.expectNothingLeft()
    await unflag(daemon, 'ADD.fail')
    await daemon.run(config)
    await daemon.removeListed()
  })

  it('that is missing fails RunPodSandbox with its name, and owes its DEL until it is there again', async () => {
    const daemon = await troubledDaemon()
    await rename(join(daemon.dir, 'bin', 'trouble'), join(daemon.dir, 'bin', 'away'))
    await expect(daemon.run()).rejects.toMatchObject({ details: containing('trouble') })
    const [pod] = await daemon.client.list()
    expect(pod?.state).toBe('SANDBOX_NOTREADY')
    await daemon.client.remove(daemon.track(pod?.id ?? ''))
    expect(await daemon.client.list()).toEqual([])
    await rename(join(daemon.dir, 'bin', 'away'), join(daemon.dir, 'bin', 'trouble'))
  })

  it('that fails at ADD and DEL leaves a pod that can be seen, and all is given back when it is well again', async () => {
    const daemon = await troubledDaemon()
    await flag(daemon, 'ADD.fail')
    await flag(daemon, 'DEL.fail')
    await expect(daemon.run()).rejects.toMatchObject({ details: containing('no luck') })
    const [pod] = await daemon.client.list()
    expect(pod?.state).toBe('SANDBOX_NOTREADY')
    const id = daemon.track(pod?.id ?? '')
    expect((await daemon.client.info(id)).ledger.map(({ kind }) => kind)).toContain('cni')
    // Also after a restart.
    await daemon.restart()
    expect((await daemon.client.list()).map((other) => other.state)).toEqual(['SANDBOX_NOTREADY'])
    // A removal that is asked for succeeds, however long the rest takes.
    await daemon.client.stop(id)
    await daemon.client.remove(id)
    expect(await daemon.client.list()).toEqual([])
    await unflag(daemon, 'DEL.fail')
  })

  it('that fails at DEL hinders no stop and no removal; the rest is owed over a restart', async () => {
    const daemon = await troubledDaemon()
    const [stopped, removed] = [await daemon.run(), await daemon.run(daemon.pod(), 'crun-pinned')]
    await flag(daemon, 'DEL.fail')
    const { pid } = await daemon.client.info(stopped)
    await daemon.client.stop(stopped)
    expect(() => process.kill(pid, 0)).toThrow()
    expect((await daemon.client.status(stopped)).state).toBe('SANDBOX_NOTREADY')
    await daemon.client.remove(removed)
    expect((await daemon.client.list()).map(({ id }) => id)).toEqual([stopped])
    await daemon.restart()
    expect((await daemon.client.list()).map(({ id }) => id)).toEqual([stopped])
    await unflag(daemon, 'DEL.fail')
    await daemon.removeListed()
  })

  it('that hangs at DEL holds up no other pod and no read, and the process ends all the same', async () => {
    const daemon = await troubledDaemon({ cni: slowed(5), release: slowed(6) })
    const id = await daemon.run()
    const { pid } = await daemon.client.info(id)
    await flag(daemon, 'DEL.hang')
    const stopping = daemon.client.stop(id)
    await expect.poll(async () => (await daemon.client.status(id)).state).toBe('SANDBOX_NOTREADY')
    expect(() => process.kill(pid, 0)).toThrow()
    const times: number[] = []
    const reading = (async () => {
      for (let count = 0; count < 200; count++) {
        const before = performance.now()
        await daemon.client.list()
        times.push(performance.now() - before)
        await sleep(5)
      }
    })()
    const others = await Promise.all(Array.from({ length: 8 }, () => daemon.run()))
    await reading
    await unflag(daemon, 'DEL.hang')
    await Promise.all(others.map((other) => daemon.client.remove(other)))
    await stopping
    times.sort((a, b) => a - b)
    process.stdout.write(`ListPodSandbox while a stop hangs: p99 ${(times[197] ?? 0).toFixed(1)} ms\n`)
    expect((await daemon.client.list()).map((pod) => pod.id)).toEqual([id])
    await daemon.removeListed()
  })
})

describe('a stop that hangs', () => {
  it('holds up neither reads nor other pods', async () => {
    const daemon = await start({ failpoints: `stop.ended=1*delay(${slowed(4000)})` })
    const id = await daemon.run()
    let stopped = false
    const stopping = daemon.client.stop(id).then(() => {
      stopped = true
    })
    const others = await Promise.all(Array.from({ length: 6 }, () => daemon.run()))
    await daemon.client.stop(others[0] ?? '')
    expect(await daemon.client.list()).toHaveLength(7)
    await daemon.client.nodeStatus()
    expect(stopped).toBe(false)
    await stopping
    await daemon.removeListed()
  })
})

describe('a pause process that ignores its stop signal', () => {
  it('is killed after the grace period', async () => {
    const daemon = await start({ config: { timeouts: { stop_grace: 0.5 }, pause: { stop_signal: 'SIGWINCH' } } })
    const id = await daemon.run()
    await daemon.client.stop(id)
    expect((await daemon.client.info(id)).exit).toMatchObject({ code: 137 })
    const { dir, node, cgroupParent, pid } = daemon
    expect(processes({ dir, node, cgroupParent, ids: [id], daemons: [pid] })).toEqual([])
    await daemon.removeListed()
  })
})

describe('a handler that names no runtime of this machine', () => {
  it('is refused with the runtime it names', async () => {
    const daemon = await start({
      config: { runtimes: { ghost: { runtime: '/nonexistent/runtime', sandboxer: 'shim' } } },
    })
    const running = daemon.client.run(daemon.pod(), 'ghost')
    await expect(running).rejects.toMatchObject({ details: containing('/nonexistent/runtime') })
    await expect(running).rejects.not.toMatchObject({ code: grpc.OK })
    expect(await daemon.client.list()).toEqual([])
  })
})
