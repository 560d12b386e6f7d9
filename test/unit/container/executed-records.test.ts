import { beforeEach, describe, expect, it } from 'vitest'
import { ExecutedContainers } from '../../../src/container/kinds/executed.ts'
import { CodedError } from '../../../src/core/errors.ts'
import type { TaskEndpoint, TaskRecord } from '../../../src/executor/types.ts'

const ID = 'c'.repeat(64)
const SANDBOX = 'a'.repeat(64)
const signal = new AbortController().signal

const taskRecord: TaskRecord = {
  id: ID,
  sandboxId: SANDBOX,
  endpoint: { address: 'ttrpc+unix:///run/containerd/s/1', version: 3 },
  announced: false,
  bundleDir: `/state/containers/${ID}`,
  cgroupsPath: `/pods/${ID}`,
  options: { typeUrl: 'containerd.runc.v1.Options', value: 'CgRydW5j' },
}
const conmonRecord = {
  id: ID,
  runtime: { path: '/usr/sbin/runc', root: '/run/r', systemdCgroup: false },
  bundleDir: `/state/containers/${ID}`,
  cgroupsPath: `/pods/${ID}`,
  ownedCgroupParents: [],
}

let endpoint: TaskEndpoint | null
let failure: Error | null
let isOrphan: boolean
let executed: ExecutedContainers
beforeEach(() => {
  endpoint = null
  failure = null
  isOrphan = false
  executed = new ExecutedContainers(
    { root: '/root', state: '/state' },
    {
      executor: {
        delete: async () => {
          if (failure) throw failure
        },
        findProcess: async () => null,
      },
      conmon: { listOwned: () => [] },
      orphans: { end: async () => isOrphan, reap: async () => undefined },
      pods: { endpoint: () => endpoint },
    },
  )
})

describe('ExecutedContainers.parse', () => {
  it('takes what it has written, of both kinds', () => {
    expect(executed.parse(conmonRecord)).toEqual(conmonRecord)
    expect(executed.parse(taskRecord)).toEqual(taskRecord)
    expect(executed.parse({ ...taskRecord, options: null })).toEqual({ ...taskRecord, options: null })
  })

  it.each([
    ['another bundle', { bundleDir: '/etc' }],
    ['another cgroup', { cgroupsPath: '/' }],
    ['an id that is none', { id: '..' }],
    ['a sandbox id that is none', { sandboxId: '../x' }],
    ['no address', { endpoint: { address: '', version: 3 } }],
    ['an address with a line break', { endpoint: { address: 'ttrpc+unix:///x\ny', version: 3 } }],
    ['a version that is none', { endpoint: { address: 'ttrpc+unix:///x', version: '3' } }],
    ['no word about announcements', { announced: undefined }],
    ['options that are not base64', { options: { typeUrl: 'x', value: '!' } }],
    ['no options', { options: undefined }],
    ['nothing but an endpoint', { endpoint: null }],
  ])('refuses a task with %s', (_, change) => {
    expect(() => executed.parse({ ...taskRecord, ...change })).toThrow(expect.objectContaining({ code: 'DataLoss' }))
  })

  it('takes a Task service for where its sandbox says that it is now', () => {
    endpoint = { address: 'ttrpc+unix:///run/containerd/s/2', version: 2 }
    expect(executed.parse(taskRecord)).toEqual({ ...taskRecord, endpoint })
  })
})

describe('ExecutedContainers.release', () => {
  it('fails as its executor does, but for what nobody answers for any more', async () => {
    failure = new CodedError('Unavailable', 'nobody answers')
    await expect(executed.release(taskRecord, signal)).rejects.toBe(failure)
    isOrphan = true
    await executed.release(taskRecord, signal)
  })
})
