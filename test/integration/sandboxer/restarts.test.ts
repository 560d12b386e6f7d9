import { setMaxListeners } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it, onTestFinished } from 'vitest'
import { GrpcSandboxerClient } from '../../../src/client/sandboxer-client.ts'
import { SandboxerController } from '../../../src/controller/sandboxer-controller.ts'
import { WAIT_TIMING } from '../../../src/controller/sandboxer-wait.ts'
import type { ExitStatus } from '../../../src/executor/types.ts'
import { loadCri, loadSandboxApi } from '../../../src/grpc/load.ts'
import { FakeSandboxer } from '../../support/fake-sandboxer.ts'
import { podConfig } from '../../support/fake-sandboxes.ts'
import { eventually } from '../../support/pod-facts.ts'
import { slowed } from '../../support/slowness.ts'

const PODS = 50
const RESTARTS = 100
const CODES = 17
// Each pod listens to it.
const { signal } = new AbortController()
setMaxListeners(0, signal)
const idOf = (pod: number): string => pod.toString(16).padStart(64, '0')

/** What the daemon has of a remote sandboxer, with less patience. */
async function setUp(): Promise<{ peer: FakeSandboxer; controller: SandboxerController }> {
  const directory = await mkdtemp(join(tmpdir(), 'sbx-peer-'))
  const peer = await FakeSandboxer.start(join(directory, 's.sock'))
  const { Controller } = loadSandboxApi().containerd.services.sandbox.v1
  const address = `unix://${peer.socketPath}`
  const client = new GrpcSandboxerClient({ name: 'far', address }, { Controller })
  onTestFinished(async () => {
    client[Symbol.dispose]()
    await peer.close()
    await rm(directory, { recursive: true })
  })
  const timing = { ...WAIT_TIMING, firstBackoffMs: 5, longestBackoffMs: 40, confirmMs: 500, exitMs: 60_000 }
  const runtimeOf = (name: string) => ({ name, options: null })
  const controller = new SandboxerController(
    {
      name: 'far',
      address,
      networkFirst: true,
      unreachableGraceMs: 2000,
      runtimeOf,
      remoteMs: 5000,
      runtimeMs: 5000,
      timing,
    },
    { client, codec: { encode: loadCri().runtime.v1.PodSandboxConfig.serialize, toJson: (config) => config } },
  )
  return { peer, controller }
}

/** Runs a pod and watches it; the promise of its end is not awaited. */
async function runPod(controller: SandboxerController, id: string): Promise<{ readonly ended: Promise<ExitStatus> }> {
  const spec = {
    id,
    config: podConfig(),
    hostname: 'web',
    runtimeHandler: 'far',
    sandboxer: 'far',
    netnsPath: '',
    usernsPath: '',
    stateDir: '',
    shmPath: '',
  }
  const record = await controller.plan(spec)
  await controller.create(record, spec, signal)
  await controller.start(record, signal)
  return { ended: controller.wait(record, null, signal) }
}

it('takes no restart of a sandboxer for the end of a pod, whatever Wait says, and misses no end', {
  timeout: slowed(300_000),
}, async () => {
  const { peer, controller } = await setUp()
  const exits = new Map<string, ExitStatus>()
  for (let pod = 0; pod < PODS; pod++) {
    const id = idOf(pod)
    const { ended } = await runPod(controller, id)
    void ended.then((exit) => exits.set(id, exit))
  }
  const waiting = (): number => [...peer.sandboxes.values()].filter(({ waiters }) => waiters.size > 0).length
  const expected = new Map<string, number>()

  for (let restart = 0; restart < RESTARTS; restart++) {
    const running = PODS - expected.size
    expect(
      await eventually(
        async () => waiting(),
        (count) => count === running,
        30_000,
      ),
    ).toBe(running)
    // Each code is what Wait says while the peer goes on; then it goes away, and sometimes a pod ends meanwhile.
    peer.answerWaits(restart % CODES)
    await sleep(restart % 3)
    await peer.close()
    if (restart % 5 === 4) {
      const id = idOf(expected.size)
      expected.set(id, restart)
      peer.end(id, restart)
    }
    await peer.listen()
  }

  for (let pod = expected.size; pod < PODS; pod++) {
    expected.set(idOf(pod), 200 + pod)
    peer.end(idOf(pod), 200 + pod)
  }
  await eventually(
    async () => exits.size,
    (size) => size === PODS,
    30_000,
  )
  expect(new Map([...exits].map(([id, { code }]) => [id, code]))).toEqual(expected)
  expect([...exits.values()].filter(({ reason }) => reason !== 'Exited')).toEqual([])
})
