import { describe, expect, it } from 'vitest'
import { findOwner } from '../../../src/admin/find-owner.ts'
import { ledgerLines } from '../../../src/admin/ledger-lines.ts'
import { type ContainerFacts, podSummaries, type SandboxFacts } from '../../../src/admin/pods.ts'
import { podUsages } from '../../../src/admin/usage.ts'
import { NEW_STATUS } from '../../../src/container/status.ts'
import type { SandboxSample } from '../../../src/stats/types.ts'
import { podConfig } from '../../support/fake-sandboxes.ts'
import { sandboxTarget } from '../../support/fake-stats.ts'

const [A, AB, C] = ['a'.repeat(64), `ab${'0'.repeat(62)}`, 'c'.repeat(64)]

function sandbox(id: string, changes: Partial<SandboxFacts['metadata']> = {}): SandboxFacts {
  const config = podConfig({ metadata: { name: 'web', namespace: 'default', uid: 'u', attempt: 0 } })
  return {
    metadata: {
      id,
      name: `k8s_POD_web_default_${id}`,
      config,
      runtimeHandler: '',
      sandboxer: 'shim',
      netMode: 'cni',
      netnsPath: '/run/netns/x',
      createdAtNs: 1_700_000_000_000_000_000n,
      ...changes,
    },
    status: { state: 'RUNNING', visible: true, process: null, exit: null, steps: [], failure: '' },
    networks: [],
    entries: [],
    quarantined: '',
  }
}

function container(id: string, sandboxId: string, status: Partial<ContainerFacts['status']> = {}): ContainerFacts {
  const metadata = { id, name: `k8s_c_${id}`, sandboxId, config: { metadata: { name: 'c' } } }
  return {
    metadata: metadata as ContainerFacts['metadata'],
    status: { ...NEW_STATUS, visible: true, ...status },
    entries: [],
    quarantined: '',
  }
}

describe('podSummaries', () => {
  it('has the newest first, with the containers that are to be seen', () => {
    const pods = podSummaries(
      [sandbox(A), sandbox(C, { createdAtNs: 1_700_000_001_000_000_000n })],
      [container(AB, A), container('e'.repeat(64), A, { removing: true }), container('f'.repeat(64), C)],
    )
    expect(pods.map(({ id, containers }) => [id, containers])).toEqual([
      [C, 1],
      [A, 1],
    ])
    expect(pods[0]).toMatchObject({ createdAt: '2023-11-14T22:13:21.000Z', runMs: null, pid: null, frontEnd: 'cri' })
  })

  it('takes the end of the last step for that of the run', () => {
    const { status, ...rest } = sandbox(A)
    const steps = [
      { name: 'a', startMs: 0, durationMs: 50 },
      { name: 'b', startMs: 10, durationMs: 5 },
    ]
    expect(podSummaries([{ ...rest, status: { ...status, steps } }], [])[0]?.runMs).toBe(50)
  })

  it('knows the addresses that another front end has told', () => {
    const served = { ips: ['10.0.0.9'], shim: null }
    expect(podSummaries([sandbox(A, { served })], [])[0]).toMatchObject({ frontEnd: 'sandboxer', ips: ['10.0.0.9'] })
  })
})

describe('findOwner', () => {
  const sandboxes = [sandbox(A), sandbox(C, { createdAtNs: 1_800_000_000_000_000_000n })]
  const containers = [container(AB, A)]
  const find = (reference: string) => findOwner(reference, sandboxes, containers)

  it('takes ids, beginnings of them, and names', () => {
    expect(find(A).facts.metadata.id).toBe(A)
    expect(find('ab')).toMatchObject({ kind: 'container' })
    expect(find(`k8s_c_${AB}`)).toMatchObject({ kind: 'container' })
    expect(find('default/web').facts.metadata.id).toBe(C)
    expect(find('web').facts.metadata.id).toBe(C)
  })

  it('does not choose between pods of one name in two namespaces', () => {
    const config = podConfig({ metadata: { name: 'web', namespace: 'other', uid: 'u', attempt: 0 } })
    const pods = [...sandboxes, sandbox('d'.repeat(64), { config })]
    expect(() => findOwner('web', pods, [])).toThrow('pods of that name in several namespaces (default, other)')
    expect(findOwner('other/web', pods, []).facts.metadata.id).toBe('d'.repeat(64))
  })

  it('says when there is none, or more than one', () => {
    expect(() => find('d')).toThrow('d: no sandbox and no container has that id or name')
    expect(() => find('')).toThrow('no sandbox')
    expect(() => find('a')).toThrow('a: 2 ids begin like that (aaaaa, ab000, ...)')
  })
})

describe('ledgerLines', () => {
  it.each([
    [{ path: '/run/netns/x' }, '/run/netns/x'],
    [{ attachment: { network: 'test', ifName: 'eth0', netnsPath: '/n' }, result: null }, 'test eth0 /n'],
    [{ sandboxer: 'shim', record: { container: { cgroupsPath: '/pods/x' } } }, 'shim /pods/x'],
    [{ sandboxer: 'vm', record: { address: 'unix:///vm.sock' } }, 'vm unix:///vm.sock'],
    [{ id: A, cgroupsPath: '/pods/y', bundleDir: '/b' }, '/pods/y'],
    [{ files: '/f', shm: '' }, '/f'],
    [null, ''],
    ['damaged', ''],
    [{ attachment: 7 }, ''],
  ])('tells what %j is about', (record, subject) => {
    const entry = { ownerId: A, seq: 0, kind: 'k', state: 'held', record, bootId: 'b' } as const
    expect(ledgerLines([entry])).toEqual([
      { ownerId: A, seq: 0, kind: 'k', state: 'held', subject, bootId: 'b', problem: null },
    ])
  })

  it('tells why one could not be released, without secrets', () => {
    const problem = 'DEL: get https://u:hunter2@ipam/x: refused'
    const [line] = ledgerLines([
      { ownerId: A, seq: 0, kind: 'k', state: 'releasing', record: null, bootId: 'b', problem },
    ])
    expect(line?.problem).toContain('refused')
    expect(line?.problem).not.toContain('hunter2')
  })
})

describe('podUsages', () => {
  const sample = (id: string, usageNanoCores: number | null): SandboxSample => {
    const target = sandboxTarget(id)
    return { target, cpu: null, usageNanoCores, memory: null, io: null, processCount: 3, network: null, containers: [] }
  }

  it('has the busiest first', () => {
    const usages = podUsages([sample('idle', null), sample('busy', 1.5e9)])
    expect(usages.map(({ id, cpuCores }) => [id.slice(0, 4), cpuCores])).toEqual([
      ['busy', 1.5],
      ['idle', null],
    ])
    expect(usages[0]).toMatchObject({ memoryBytes: null, pids: 3, network: null })
  })
})
