import { beforeEach, describe, expect, it } from 'vitest'
import { Executors, type PlanRequest } from '../../../src/executor/executors.ts'
import type { ContainerRecord, TaskRecord } from '../../../src/executor/types.ts'
import { FakeExecutor, UNSEEN } from '../../support/fake-executor.ts'

const signal = new AbortController().signal

const conmonRecord: ContainerRecord = {
  id: 'c',
  runtime: { path: '/usr/sbin/runc', root: '/run/r', systemdCgroup: false },
  bundleDir: '/b/c',
  cgroupsPath: '/pods/c',
  ownedCgroupParents: [],
}
const taskRecord: TaskRecord = {
  id: 't',
  sandboxId: 's',
  endpoint: { address: 'ttrpc+unix:///run/s', version: 3 },
  announced: false,
  bundleDir: '/b/t',
  cgroupsPath: '/pods/t',
  options: null,
}

class FakeConmon extends FakeExecutor<ContainerRecord> {
  async plan(request: Omit<ContainerRecord, 'ownedCgroupParents'>): Promise<ContainerRecord> {
    return { ...request, ownedCgroupParents: [] }
  }
}

class FakeTasks extends FakeExecutor<TaskRecord> {
  async plan(record: TaskRecord): Promise<TaskRecord> {
    return { ...record, sliceOomKills: 3 }
  }
}

let conmon: FakeConmon
let tasks: FakeTasks
let executors: Executors
beforeEach(() => {
  conmon = new FakeConmon()
  tasks = new FakeTasks()
  const quiet = async (options: TaskRecord['options']) => options && { ...options, value: 'quiet' }
  executors = new Executors({ conmon, tasks, runtimes: { quiet } })
})

describe('Executors', () => {
  const calls: [string, (record: ContainerRecord | TaskRecord) => unknown][] = [
    ['adopt', (record) => executors.adopt(record)],
    ['create', (record) => executors.create(record, signal)],
    ['start', (record) => executors.start(record, signal)],
    ['startedAtNs', (record) => executors.startedAtNs(record, UNSEEN, signal)],
    ['kill 15', (record) => executors.kill(record, UNSEEN, 15, signal)],
    ['killAll', (record) => executors.killAll(record, signal)],
    ['isAlive', (record) => executors.isAlive(record, UNSEEN, signal)],
    ['findProcess', (record) => executors.findProcess(record, signal)],
    ['exitStatus', (record) => executors.exitStatus(record, signal)],
    ['oomKilled', (record) => executors.oomKilled(record, { code: 137, atNs: 1n, reason: 'Exited' }, signal)],
    ['killLeftExecs', (record) => executors.killLeftExecs(record, UNSEEN, signal)],
    ['reopenLog', (record) => executors.reopenLog(record, '/log', signal)],
    ['update', (record) => executors.update(record, {}, signal)],
    ['delete', (record) => executors.delete(record, signal)],
  ]

  it.each(calls)('has %s done by the one whose record it is', async (name, call) => {
    await call(taskRecord)
    expect([conmon.calls, tasks.calls]).toEqual([[], [name]])
    await call(conmonRecord)
    expect([conmon.calls, tasks.calls]).toEqual([[name], [name]])
  })

  it('forgets a plan of conmon, and asks no Task service about one', async () => {
    await executors.forget(taskRecord, signal)
    await executors.forget(conmonRecord, signal)
    expect([conmon.calls, tasks.calls]).toEqual([['delete'], []])
  })
})

describe('Executors.plan', () => {
  const request: PlanRequest = {
    id: 'c',
    sandboxId: 's',
    bundleDir: '/b/c',
    cgroupsPath: '/pods/c',
    hasUserns: false,
    runtime: conmonRecord.runtime,
    tasks: null,
  }

  it('makes a record of conmon without a Task service', async () => {
    expect(await executors.plan(request)).toEqual({ ...conmonRecord, hasUserns: false })
  })

  it('makes a record of the Task service where there is one, which its executor completes', async () => {
    const options = { typeUrl: 'containerd.runc.v1.Options', value: 'AA==' }
    const endpoint = { address: 'ttrpc+unix:///run/s', version: 2 }
    expect(await executors.plan({ ...request, tasks: { ...endpoint, announced: true, options } })).toEqual({
      id: 'c',
      sandboxId: 's',
      endpoint,
      announced: true,
      bundleDir: '/b/c',
      cgroupsPath: '/pods/c',
      options,
      sliceOomKills: 3,
    })
  })

  it('has the Task service of a pod with a user namespace run a runtime that keeps the node’s devices to it', async () => {
    const options = { typeUrl: 'containerd.runc.v1.Options', value: 'AA==' }
    const tasks = { address: 'ttrpc+unix:///run/s', version: 3, announced: false, options }
    expect(await executors.plan({ ...request, hasUserns: true, tasks })).toMatchObject({
      options: { ...options, value: 'quiet' },
    })
  })
})
