import { pino } from 'pino'
import { beforeEach, describe, expect, it } from 'vitest'
import { Container } from '../../../src/container/container.ts'
import { NEW_STATUS } from '../../../src/container/status.ts'
import type { ContainerConfig, ContainerMetadata } from '../../../src/container/types.ts'
import { Sealer } from '../../../src/core/seal.ts'
import type { DurableDeps } from '../../../src/lifecycle/durable.ts'
import { Sandbox } from '../../../src/sandbox/sandbox.ts'
import type { PodSandboxConfig, SandboxMetadata } from '../../../src/sandbox/types.ts'

const SANDBOX = 'a'.repeat(64)
const CONTAINER = 'c'.repeat(64)

let lines: Record<string, unknown>[]
let deps: DurableDeps
beforeEach(() => {
  lines = []
  const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>)
  const logger = pino({ base: null, timestamp: false, formatters: { level: (level) => ({ level }) } }, { write })
  deps = { store: { commit: async () => undefined }, sealer: new Sealer(Buffer.alloc(32, 7)), logger }
})

function container(quarantined = ''): Container {
  const metadata: Partial<ContainerMetadata> = {
    id: CONTAINER,
    sandboxId: SANDBOX,
    name: 'k8s_c_p_n_u_0',
    config: { metadata: { name: 'c', attempt: 0 }, envs: [] } as unknown as ContainerConfig,
  }
  return new Container({ metadata: metadata as ContainerMetadata, status: NEW_STATUS, entries: [], quarantined }, deps)
}

function sandbox(): Sandbox {
  const metadata: Partial<SandboxMetadata> = {
    id: SANDBOX,
    name: 'k8s_POD_p_n_u_0',
    netMode: 'host',
    config: { metadata: { name: 'p', namespace: 'n', uid: 'u', attempt: 0 } } as PodSandboxConfig,
  }
  const status = { state: 'RUNNING', visible: true, process: null, exit: null, steps: [], failure: '' } as const
  const record = { metadata: metadata as SandboxMetadata, checkpointHash: '', status, networks: [], entries: [] }
  return new Sandbox({ ...record, quarantined: '' }, deps)
}

describe('the log of states', () => {
  it('has one line for each change of a container, with how it ended', async () => {
    const one = container()
    await one.save({ status: (s) => ({ ...s, state: 'CREATED' }), log: { why: 'it was created', steps: [] } })
    await one.save({ status: (s) => ({ ...s, message: 'nothing new' }) })
    const exit = { code: 137, atNs: 5n, reason: 'Exited' } as const
    await one.note({ status: (s) => ({ ...s, state: 'EXITED', exit, oomKilled: true }), log: { why: 'it ended' } })
    await one.delete()
    const what = { level: 'info', containerId: CONTAINER, sandboxId: SANDBOX, name: 'k8s_c_p_n_u_0' }
    const end = { exitCode: 137, reason: 'Exited', oomKilled: true, why: 'it ended' }
    expect(lines).toEqual([
      { ...what, from: 'UNKNOWN', to: 'CREATED', why: 'it was created', steps: [], msg: 'container state' },
      { ...what, from: 'CREATED', to: 'EXITED', ...end, msg: 'container state' },
      { ...what, from: 'EXITED', to: 'REMOVED', why: 'nothing new', msg: 'container state' },
    ])
  })

  it('warns of a sandbox of which nobody knows how it is', async () => {
    const one = sandbox()
    await one.note({ status: (s) => ({ ...s, state: 'PENDING' }), log: { why: 'its sandboxer does not answer' } })
    await one.note({ status: (s) => s, log: { why: 'nothing changes' } })
    expect(lines).toEqual([
      {
        level: 'warn',
        sandboxId: SANDBOX,
        name: 'k8s_POD_p_n_u_0',
        from: 'RUNNING',
        to: 'PENDING',
        why: 'its sandboxer does not answer',
        msg: 'sandbox state',
      },
    ])
  })

  it('tells once why something is quarantined: the first reason', () => {
    container('the row is damaged').quarantine('and more')
    const late = sandbox()
    late.quarantine('')
    late.quarantine('no checkpoint')
    late.quarantine('and more')
    expect(lines.map(({ level, msg, reason }) => [level, msg, reason])).toEqual([
      ['error', 'container quarantined', 'the row is damaged'],
      ['error', 'sandbox quarantined', 'no checkpoint'],
    ])
  })
})
