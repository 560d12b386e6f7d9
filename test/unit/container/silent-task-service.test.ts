import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Container } from '../../../src/container/container.ts'
import { ExitRecorder } from '../../../src/container/exit-recorder.ts'
import { Orphans } from '../../../src/container/orphans.ts'
import { Recovery } from '../../../src/container/recovery.ts'
import { NEW_STATUS } from '../../../src/container/status.ts'
import { StopGrace } from '../../../src/container/stop-grace.ts'
import { Teardown } from '../../../src/container/teardown.ts'
import type { ContainerStatus } from '../../../src/container/types.ts'
import { Failpoints } from '../../../src/core/failpoints.ts'
import { Sealer } from '../../../src/core/seal.ts'
import type { TaskRecord } from '../../../src/executor/types.ts'
import type { ContainerConfig__Output } from '../../../src/generated/runtime/v1/ContainerConfig.ts'
import { Releaser } from '../../../src/lifecycle/release.ts'
import { FakeExecutor, UNSEEN } from '../../support/fake-executor.ts'

const ID = 'c'.repeat(64)
const SANDBOX = 'a'.repeat(64)
const BOOT = UNSEEN.bootId
const logger = pino({ level: 'silent' })

const record: TaskRecord = {
  id: ID,
  sandboxId: SANDBOX,
  endpoint: { address: 'ttrpc+unix:///run/s', version: 3 },
  announced: false,
  bundleDir: `/b/${ID}`,
  cgroupsPath: `/pods/${ID}`,
  options: null,
}

function containerOf(status: Partial<ContainerStatus>): Container {
  const metadata = {
    id: ID,
    name: 'k8s_c_p_n_u_0',
    sandboxId: SANDBOX,
    config: { metadata: { name: 'c', attempt: 0 }, linux: null, envs: [] } as unknown as ContainerConfig__Output,
    imageId: 'sha256:1',
    imageRef: 'sha256:1',
    mountedImageIds: [],
    logPath: '',
    stopSignal: 'SIGTERM',
    createdAtNs: 1n,
  }
  const entry = { ownerId: ID, seq: 0, kind: 'container', state: 'held' as const, record, bootId: BOOT }
  return new Container(
    { metadata, status: { ...NEW_STATUS, visible: true, ...status }, entries: [entry], quarantined: '' },
    { store: { commit: async () => undefined }, sealer: new Sealer(Buffer.alloc(32, 7)), logger },
  )
}

let executor: FakeExecutor
let hasEnded: boolean
let reaped: string[]
let orphans: Orphans
let closing: AbortController
const executed = { of: () => record, ofProcess: () => record, release: async () => undefined }
beforeEach(() => {
  executor = new FakeExecutor()
  executor.isReachable = false
  hasEnded = false
  reaped = []
  closing = new AbortController()
  const reap = async ({ id }: TaskRecord): Promise<void> => void reaped.push(id)
  orphans = new Orphans({ pods: { hasEnded: () => hasEnded }, reap, logger })
})
afterEach(() => closing.abort())

describe('Recovery of a container of a Task service', () => {
  const recovery = (): Recovery =>
    new Recovery(
      { bootId: BOOT },
      { executor, executed, orphans, processes: { wasRestored: async () => false }, logger },
    )

  it('leaves it as it is on record while nobody answers, to be asked again', async () => {
    const container = containerOf({ state: 'RUNNING', process: UNSEEN, startedAtNs: 2n })
    expect(await recovery().recover(container)).toBe('later')
    expect(container.status).toMatchObject({ state: 'RUNNING', exit: null })
    expect(container.quarantined).toBe('')
    executor.isReachable = true
    executor.startedNs = 2n
    expect(await recovery().recover(container)).toBe('watch')
  })

  it('believes that it has ended when its sandbox is known to have, and ends what is left of it', async () => {
    hasEnded = true
    const container = containerOf({ state: 'RUNNING', process: UNSEEN, startedAtNs: 2n })
    expect(await recovery().recover(container)).toBe('leave')
    expect(container.status).toMatchObject({ state: 'EXITED', exit: { code: 255, reason: 'Unknown' } })
    expect(reaped).toEqual([ID])
  })

  it('finds out that it was started, and how it ended', async () => {
    executor.isReachable = true
    executor.startedNs = 5n
    const container = containerOf({ state: 'CREATED', process: UNSEEN })
    expect(await recovery().recover(container)).toBe('watch')
    expect(container.status).toMatchObject({ state: 'RUNNING', startedAtNs: 5n })
    executor.end({ code: 3, atNs: 9n, reason: 'Exited' })
    expect(await recovery().recover(container)).toBe('leave')
    expect(container.status).toMatchObject({ state: 'EXITED', exit: { code: 3, atNs: 9n } })
  })

  it('keeps one CREATED that waits for its start', async () => {
    executor.isReachable = true
    const container = containerOf({ state: 'CREATED', process: UNSEEN })
    expect(await recovery().recover(container)).toBe('watch')
    expect(container.status).toMatchObject({ state: 'CREATED', startedAtNs: 0n })
  })
})

describe('Teardown of a container of a Task service', () => {
  const released: string[] = []
  const teardown = (): Teardown => {
    const kind = {
      kind: 'container',
      parse: () => record,
      release: async () => {
        await executor.delete()
        released.push(ID)
      },
      probe: async () => false,
      listOwned: async () => [],
    }
    const failpoints = new Failpoints('')
    return new Teardown({
      executor,
      executed,
      orphans,
      releaser: new Releaser({ budgetMs: 1000 }, { kinds: [kind], failpoints, logger }),
      failpoints,
      logger,
      ended: (container, process) => exits.watch(container, process),
      killing: (container) => exits.killing(container),
    })
  }
  let exits: ExitRecorder
  beforeEach(() => {
    released.length = 0
    exits = new ExitRecorder({ executor, executed, orphans, logger, signal: closing.signal, onEnded: () => undefined })
  })

  it('is refused with the reason while nobody answers, and works when somebody does', async () => {
    const container = containerOf({ state: 'RUNNING', process: UNSEEN, startedAtNs: 2n })
    await expect(teardown().stop(container, new StopGrace(0))).rejects.toMatchObject({ code: 'Unavailable' })
    await expect(teardown().remove(container)).rejects.toMatchObject({ code: 'Unavailable' })
    expect(container.status).toMatchObject({ state: 'RUNNING', removing: false, exit: null })
    executor.isReachable = true
    await teardown().stop(container, new StopGrace(0))
    expect(container.status).toMatchObject({ state: 'EXITED', exit: { code: 137, reason: 'Exited' } })
    expect(await teardown().remove(container)).toBe(true)
    expect(released).toEqual([ID])
  })

  it('does not ask about one whose end was seen; its release is owed', async () => {
    const exit = { code: 0, atNs: 3n, reason: 'Exited' } as const
    const container = containerOf({ state: 'EXITED', process: UNSEEN, startedAtNs: 2n, exit })
    expect(await teardown().remove(container)).toBe(false)
    expect(executor.calls).toEqual(['delete'])
    expect(container.status.removing).toBe(true)
    executor.isReachable = true
    expect(await teardown().remove(container)).toBe(true)
  })

  it('ends one whose sandbox is known to have ended', async () => {
    hasEnded = true
    const container = containerOf({ state: 'RUNNING', process: UNSEEN, startedAtNs: 2n })
    await teardown().stop(container, new StopGrace(10_000))
    expect(container.status).toMatchObject({ state: 'EXITED', exit: { code: 255, reason: 'Unknown' } })
    expect(reaped).toEqual([ID])
  })
})

describe('ExitRecorder of a container of a Task service', () => {
  const ended: Container[] = []
  const recorder = (): ExitRecorder =>
    new ExitRecorder({
      executor,
      executed,
      orphans,
      logger,
      signal: closing.signal,
      onEnded: (container) => ended.push(container),
    })

  it('does not take silence for an end, and tells the code of one that came meanwhile', async () => {
    const container = containerOf({ state: 'RUNNING', process: UNSEEN, startedAtNs: 2n })
    const watched = recorder().watch(container, UNSEEN)
    await expect.poll(() => executor.calls.includes('isAlive')).toBe(true)
    expect(container.status.state).toBe('RUNNING')
    executor.end({ code: 4, atNs: 8n, reason: 'Exited' })
    executor.isReachable = true
    await watched
    expect(container.status).toMatchObject({ state: 'EXITED', exit: { code: 4, atNs: 8n, reason: 'Exited' } })
    expect(ended).toContain(container)
  })

  it('takes it for ended when its sandbox is', async () => {
    const container = containerOf({ state: 'RUNNING', process: UNSEEN, startedAtNs: 2n })
    const watched = recorder().watch(container, UNSEEN)
    await expect.poll(() => executor.calls.includes('isAlive')).toBe(true)
    hasEnded = true
    await watched
    expect(container.status).toMatchObject({ state: 'EXITED', exit: { code: 255, reason: 'Unknown' } })
    expect(reaped).toEqual([ID])
  })
})
