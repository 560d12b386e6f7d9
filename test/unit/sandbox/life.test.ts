import { pino } from 'pino'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { Controller } from '../../../src/controller/controller.ts'
import { ControllerRegistry } from '../../../src/controller/registry.ts'
import { Failpoints } from '../../../src/core/failpoints.ts'
import { Sealer } from '../../../src/core/seal.ts'
import { Releaser } from '../../../src/lifecycle/release.ts'
import { ControlledSandboxes } from '../../../src/sandbox/kinds/controlled.ts'
import { SandboxLife } from '../../../src/sandbox/life.ts'
import { type LoadedSandbox, nameless } from '../../../src/sandbox/load.ts'

const ID = 'a'.repeat(64)
const BOOT = 'this-boot'
const OPTIONS = {
  roots: { root: '/nonexistent', state: '/nonexistent' },
  bootId: BOOT,
  stopGraceMs: 10,
  releaseMs: 10,
  recoveryConcurrency: 1,
  lastCreatedAtNs: 0n,
}

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** The sandboxes of a daemon with one sandboxer, of which only `given` is there. */
function lifeWith(given: Partial<Controller>): SandboxLife {
  const registry = new ControllerRegistry()
  const controller: Partial<Controller> = {
    name: 'far',
    remote: true,
    parse: () => ({ id: ID }),
    adopt: () => undefined,
  }
  registry.register({ ...controller, ...given } as Controller)
  const logger = pino({ level: 'silent' })
  const sealer = new Sealer(Buffer.alloc(32, 1))
  const failpoints = new Failpoints('')
  return new SandboxLife(OPTIONS, {
    durable: { store: { commit: async () => undefined }, sealer, logger },
    sealer,
    failpoints,
    registry,
    controlled: new ControlledSandboxes({ registry }),
    releaser: new Releaser({ budgetMs: 10 }, { kinds: [], failpoints, logger }),
    containers: { stopPod: async () => undefined, removePod: async () => undefined, forgetPod: () => undefined },
    onEvent: () => undefined,
    onEnd: () => undefined,
    logger,
  })
}

/** One that runs, as an earlier daemon has left it. */
function running(): LoadedSandbox {
  const entry = { ownerId: ID, seq: 0, kind: 'controller', state: 'held', bootId: BOOT } as const
  return {
    record: {
      metadata: { ...nameless(ID), sandboxer: 'far' },
      checkpointHash: '',
      status: { state: 'RUNNING', visible: true, process: null, exit: null, steps: [], failure: '' },
      networks: [],
      entries: [{ ...entry, record: { sandboxer: 'far', record: { id: ID } } }],
      quarantined: '',
    },
    hasRow: true,
  }
}

it('a sandbox of which nothing could be found out at recovery is shown as such, and not ended for that', async () => {
  const stop = vi.fn(async () => undefined)
  const wait = (): never => {
    throw new Error('something unheard of')
  }
  await using life = lifeWith({ stop, wait })
  await life.restore([running()])
  await life.recover()
  await vi.advanceTimersByTimeAsync(3_600_000)
  expect(stop).not.toHaveBeenCalled()
  const [sandbox] = life.all()
  expect([sandbox?.status.state, life.owed]).toEqual(['RUNNING', 0])
  expect(sandbox?.quarantined).not.toBe('')
})
