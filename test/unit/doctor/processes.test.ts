import { describe, expect, it } from 'vitest'
import type { Container } from '../../../src/container/container.ts'
import { type LifelessDeps, rowsWithoutProcess } from '../../../src/doctor/processes.ts'
import type { Records } from '../../../src/doctor/records.ts'
import { identifyProcess } from '../../../src/host/process.ts'
import type { Sandbox } from '../../../src/sandbox/sandbox.ts'

const NEVER = new AbortController().signal
const BOOT = 'boot-1'
const GONE = { pid: 1, startTime: 'never', bootId: BOOT }
const [SANDBOX, CONTAINER] = ['a'.repeat(64), 'b'.repeat(64)]

/** Something on record that is changed by `save`, as the real ones are. */
function owner<T>(id: string, status: object): T & { status: Record<string, unknown> } {
  const one = {
    id,
    metadata: { id, sandboxId: SANDBOX },
    entries: [],
    quarantined: '',
    status,
    save: async (change: { status: (current: object) => object }) => {
      one.status = change.status(one.status)
    },
  }
  return one as unknown as T & { status: Record<string, unknown> }
}

const sandboxOf = (status: object): Sandbox & { status: Record<string, unknown> } =>
  owner(SANDBOX, { state: 'RUNNING', visible: true, exit: null, process: GONE, ...status })
const containerOf = (status: object): Container & { status: Record<string, unknown> } =>
  owner(CONTAINER, { state: 'RUNNING', visible: true, removing: false, exit: null, process: GONE, ...status })

function recordsOf(sandboxes: readonly Sandbox[], containers: readonly Container[]): Records {
  return {
    sandboxes: () => sandboxes,
    containers: () => containers,
    isKnown: () => true,
    isOwn: () => true,
    examine: async () => '',
  }
}

function check(sandboxes: readonly Sandbox[], containers: readonly Container[], deps: Partial<LifelessDeps> = {}) {
  const given = {
    records: recordsOf(sandboxes, containers),
    hasShim: () => false,
    exitOf: async () => null,
    isDaemonUp: false,
    ...deps,
  }
  return rowsWithoutProcess({ bootId: BOOT, patienceMs: 0 }, given)
}

describe('rows without process', () => {
  it('get the end that the monitor has written down, or one that nobody knows', async () => {
    const [sandbox, container] = [sandboxOf({}), containerOf({ startedAtNs: 5n })]
    const exitOf: LifelessDeps['exitOf'] = async (id) =>
      id === SANDBOX ? { code: 137, atNs: 7n, reason: 'Exited' } : null
    const found = await check([sandbox], [container], { exitOf }).look(NEVER)
    expect(found.map(({ ownerId, subject }) => [ownerId, subject])).toEqual([
      [SANDBOX, 'process 1'],
      [CONTAINER, 'process 1'],
    ])
    for (const { repair } of found) if (typeof repair !== 'string') await repair(NEVER)
    expect(sandbox.status).toMatchObject({ state: 'STOPPED', exit: { code: 137, atNs: 7n } })
    expect(container.status).toMatchObject({ state: 'EXITED', exit: { code: 255, reason: 'Unknown' } })
    expect(await check([sandbox], [container]).look(NEVER)).toEqual([])
  })

  it.each([
    ['one that runs', { process: { ...identifyProcess(process.pid, BOOT) } }],
    ['one of another boot', { process: { ...GONE, bootId: 'boot-0' } }],
    ['one that only a Task service knows', { process: { ...GONE, startTime: '' } }],
    ['one that is stopped', { state: 'STOPPED' }],
    ['one that is being made', { visible: false }],
    ['one without a process', { process: null }],
  ])('is not %s', async (_, status) => {
    expect(await check([sandboxOf(status)], []).look(NEVER)).toEqual([])
  })

  it('are left to a daemon that runs, and not fixed when that does not find it out either', async () => {
    const sandbox = sandboxOf({})
    const records = { ...recordsOf([sandbox], []), examine: async () => 'the runtime does not answer' }
    const [found] = await check([sandbox], [], { records, isDaemonUp: true }).look(NEVER)
    if (found === undefined || typeof found.repair === 'string') throw new Error('it can be repaired')
    await found.repair(NEVER)
    expect(sandbox.status).toMatchObject({ state: 'RUNNING', exit: null })
    await expect(found.settle?.()).rejects.toThrow('the runtime does not answer')
    Object.assign(sandbox.status, { state: 'STOPPED' })
    await found.settle?.()
  })

  it('is not one whose shim can be asked', async () => {
    expect(await check([sandboxOf({})], [containerOf({})], { hasShim: () => true }).look(NEVER)).toEqual([])
  })
})
