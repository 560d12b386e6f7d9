import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type { TestContainerd } from '../support/containerd.ts'
import { CONTAINERD, expectFiles, HANDLERS, startContainerd, WITH_FILES } from '../support/containerd-pods.ts'
import { TestPod } from '../support/test-pod.ts'

const WAIT = { timeout: 20_000, interval: 50 }
// Those of the project are for critest.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 90_000 })

/** What is done to the two daemons while a container ends. */
const RESTARTS: readonly (readonly [string, (of: TestContainerd, meanwhile: () => Promise<void>) => Promise<void>])[] =
  [
    [
      'containerd is restarted',
      async (of, meanwhile) => {
        await of.end()
        await meanwhile()
        await of.launch()
      },
    ],
    [
      'containerd is killed',
      async (of, meanwhile) => {
        await of.end('SIGKILL')
        await meanwhile()
        await of.launch()
      },
    ],
    [
      'its sandboxer is restarted',
      async (of, meanwhile) => {
        await of.daemon.stop()
        await meanwhile()
        await of.restartDaemon()
      },
    ],
    [
      'its sandboxer is killed',
      async (of, meanwhile) => {
        await of.daemon.kill9()
        await meanwhile()
        await of.restartDaemon()
      },
    ],
    [
      'both are killed, and the sandboxer is back first',
      async (of, meanwhile) => {
        await of.end('SIGKILL')
        await of.daemon.kill9()
        await meanwhile()
        await of.daemon.restart()
        await of.launch()
      },
    ],
    [
      'both are killed, and containerd is back first',
      async (of, meanwhile) => {
        await of.daemon.kill9()
        await of.end('SIGKILL')
        await meanwhile()
        await of.launch()
        await of.daemon.restart()
        // What it could not ask about it takes for unknown, until it starts again.
        await of.restart()
      },
    ],
    [
      'both are restarted twice, in turns',
      async (of, meanwhile) => {
        await of.daemon.stop()
        await of.end()
        await meanwhile()
        await of.daemon.restart()
        await of.launch()
        await of.restart('SIGKILL')
        await of.daemon.restart()
        await of.daemon.restart()
        await of.restart()
      },
    ],
  ]

describe.skipIf(CONTAINERD === undefined).each(HANDLERS)(
  'a pod of containerd, its sandboxer being %s, goes on',
  (handler) => {
    let containerd: TestContainerd
    beforeAll(async () => {
      containerd = await startContainerd(handler)
    })
    afterEach(async () => {
      if (!containerd.isRunning) await containerd.launch()
      if (handler !== 'own' && !containerd.daemon.isRunning) await containerd.restartDaemon()
      await containerd.removeListed()
      await containerd.expectNothingLeft()
    })
    afterAll(async () => {
      await containerd?.[Symbol.asyncDispose]()
    })

    const restarts = RESTARTS.filter(([what]) => handler !== 'own' || !/sandboxer|both/.test(what))
    it.each(restarts)('when %s', async (what, restart) => {
      const pod = await TestPod.run(containerd, handler, containerd.pod(WITH_FILES))
      const before = await containerd.client.status(pod.id)
      const go = join(containerd.dir, 'go')
      mkdirSync(go, { recursive: true })
      const mounts = [{ host_path: go, container_path: '/go' }]
      const until = (file: string): string => `until [ -e /go/${file} ]; do sleep 0.05; done`
      const mark = pod.id.slice(0, 8)
      const ended = await pod.run('echo early; exit 3')
      const created = await pod.create()
      const goesOn = await pod.start({
        mounts,
        command: ['/bin/sh', '-c', `echo 1; ${until(`${mark}-2`)}; echo 2; sleep 1000`],
      })
      const ends = await pod.start({
        mounts,
        command: ['/bin/sh', '-c', `echo a; ${until(`${mark}-1`)}; echo b; exit 7`],
      })
      const { pid } = await containerd.client.containers.info(ends)
      // What nobody has read yet is lost with a container that ends while nobody reads.
      const { log_path: log } = await containerd.client.containers.status(ends)
      await expect.poll(() => readFileSync(log, 'utf8'), WAIT).toContain('stdout F a')
      await restart(containerd, async () => {
        writeFileSync(join(go, `${mark}-1`), '')
        await expect.poll(() => isRunning(pid), WAIT).toBe(false)
      })

      const { client } = containerd
      expect(await client.status(pod.id)).toMatchObject({ state: 'SANDBOX_READY', network: before.network })
      const status = (id: string): ReturnType<typeof client.containers.status> => client.containers.status(id)
      expect(await status(ended.id)).toMatchObject({ state: 'CONTAINER_EXITED', exit_code: 3 })
      expect(await status(goesOn)).toMatchObject({ state: 'CONTAINER_RUNNING' })
      const late = await pod.ended(ends)
      // What ended while containerd was away it finds without a process, and says so: it does not ask for the exit code.
      const end = what.startsWith('its sandboxer')
        ? { exit_code: 7, reason: 'Error' }
        : { exit_code: 255, reason: 'Unknown' }
      expect(late.status).toMatchObject(end)
      expect(await client.containers.shell(goesOn, 'echo alive')).toBe('alive')
      writeFileSync(join(go, `${mark}-2`), '')
      await client.containers.start(created)
      expect(await client.containers.shell(created, 'echo started')).toBe('started')
      expect(await pod.prints('echo new')).toBe('new')
      await expectFiles(containerd, pod)
      expect(Number((await client.stats.container(goesOn)).memory?.working_set_bytes?.value)).toBeGreaterThan(0)
      await client.containers.stop(goesOn, 0)
      expect((await pod.ended(goesOn)).stdout).toBe('1\n2\n')
      expect(late.stdout).toMatch(what.startsWith('its sandboxer') ? /^a\nb\n$/ : /^a\n/)
      await client.stop(pod.id)
      expect((await client.status(pod.id)).state).toBe('SANDBOX_NOTREADY')
      await client.remove(pod.id)
    })
  },
)

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
