import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { isRuncShim, shimName } from '../../../../src/core/runtime-type.ts'
import { parseBootstrapOutput } from '../../../../src/executor/shim/bootstrap.ts'
import { containerId } from '../../../../src/executor/shim/members.ts'
import { pauseOptions, runtimeOf, shimOptions } from '../../../../src/executor/shim/runtime-options.ts'
import { findShimBinary } from '../../../../src/executor/shim/shim-binary.ts'
import { ShimEvents } from '../../../../src/executor/shim/shim-events.ts'
import type { TaskEvent } from '../../../../src/executor/task/types.ts'
import { loadShimApi } from '../../../../src/grpc/load.ts'
import { connectTtrpc } from '../../../../src/ttrpc/connect.ts'

const api = loadShimApi()
const signal = new AbortController().signal

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sandboxerd-shim-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

describe('a runtime type', () => {
  it.each([
    ['io.containerd.runc.v2', 'containerd-shim-runc-v2', true],
    ['io.containerd.kata.v2', 'containerd-shim-kata-v2', false],
    ['com.example.my.own.thing.v1', 'containerd-shim-thing-v1', false],
    ['/opt/bin/containerd-shim-runc-v2', 'containerd-shim-runc-v2', true],
    ['/opt/bin/my-shim', 'my-shim', false],
    ['runc', undefined, false],
    ['runc.v2', undefined, false],
    ['io.containerd.runc/../../x.v2', undefined, false],
    ['io..v2', undefined, false],
    ['', undefined, false],
  ])('%s names %s', (runtimeType, name, isRunc) => {
    expect(shimName(runtimeType)).toBe(name)
    expect(isRuncShim(runtimeType)).toBe(isRunc)
  })

  it('is looked for in the directories of a path, in their order', async () => {
    const [a, b] = [join(directory, 'a'), join(directory, 'b')]
    for (const dir of [a, b]) mkdirSync(dir)
    const make = (dir: string): string => {
      const file = join(dir, 'containerd-shim-x-v1')
      writeFileSync(file, '')
      chmodSync(file, 0o755)
      return file
    }
    await expect(findShimBinary('io.containerd.x.v1', `${a}:${b}`)).rejects.toMatchObject({
      code: 'FailedPrecondition',
    })
    expect(await findShimBinary('io.containerd.x.v1', `relative:${a}:${make(b)}:${b}`)).toBe(
      join(b, 'containerd-shim-x-v1'),
    )
    const first = make(a)
    expect(await findShimBinary('io.containerd.x.v1', `${a}:${b}`)).toBe(first)
    expect(await findShimBinary(first, '')).toBe(first)
    await expect(findShimBinary('/no/such', a)).rejects.toThrow('there is no such program')
    await expect(findShimBinary('x', a)).rejects.toThrow('not as io.containerd.runc.v2')
  })
})

describe('what a shim prints when it is started', () => {
  const result = (version: number): string =>
    api.containerd.runtime.bootstrap.v1.BootstrapResult.serialize({
      version,
      address: 'unix:///run/s/1',
      protocol: 'ttrpc',
    }).toString()
  it.each([
    ['{"version":3,"address":"unix:///run/s/1","protocol":"ttrpc"}', { address: 'ttrpc+unix:///run/s/1', version: 3 }],
    ['{"version":2,"address":"/run/s/1","protocol":"grpc"}\n', { address: 'grpc+/run/s/1', version: 2 }],
    [result(3), { address: 'ttrpc+unix:///run/s/1', version: 3 }],
    ['unix:///run/s/1', { address: 'ttrpc+unix:///run/s/1', version: 2 }],
    ['/run/s/1\n', { address: 'ttrpc+unix:///run/s/1', version: 2 }],
  ])('%j is understood', (output, endpoint) => {
    expect(parseBootstrapOutput(output, api)).toEqual(endpoint)
  })

  it.each(['', 'oops', '{"version":', '\b', 'unix:///a b', 'a.sock'])('%j is refused', (output) => {
    expect(() => parseBootstrapOutput(output, api)).toThrow(expect.objectContaining({ code: 'FailedPrecondition' }))
  })
})

describe('the options of a shim', () => {
  const own = {
    runtimeType: 'io.containerd.runc.v2',
    runtime: '/usr/bin/crun',
    runtimeRoot: '/run/sandboxerd/runtime/crun',
    runtimeConfig: '',
    systemdCgroup: true,
  }

  it('say runtime, root and the way to make cgroups to that of runc', () => {
    const options = shimOptions(own, api)
    expect(options?.typeUrl).toBe('containerd.runc.v1.Options')
    expect(runtimeOf(options, 'k8s.io', api)).toEqual({
      path: '/usr/bin/crun',
      root: '/run/sandboxerd/runtime/crun/k8s.io',
      systemdCgroup: true,
    })
  })

  it('name the configuration file to others, or say nothing', () => {
    const kata = { ...own, runtimeType: 'io.containerd.kata.v2' }
    expect(shimOptions(kata, api)).toBeNull()
    const options = shimOptions({ ...kata, runtimeConfig: '/etc/kata.toml' }, api)
    const value = Buffer.from(options?.value ?? '', 'base64')
    expect(api.runtimeoptions.v1.Options.deserialize(value).config_path).toBe('/etc/kata.toml')
    expect(runtimeOf(options, 'k8s.io', api)).toBeNull()
  })

  it('of a front end are kept for a pause container, but for what it leaves open', () => {
    const { Options } = api.containerd.runc.v1
    const asked = (options: Parameters<typeof Options.serialize>[0]) => ({
      typeUrl: 'type.googleapis.com/containerd.runc.v1.Options',
      value: Options.serialize(options).toString('base64'),
    })
    const read = (options: ReturnType<typeof pauseOptions>) =>
      Options.deserialize(Buffer.from(options?.value ?? '', 'base64'))
    const given = {
      no_pivot_root: true,
      binary_name: '/usr/sbin/runc',
      root: '/r',
      task_api_address: 'x',
      task_api_version: 3,
    }
    expect(read(pauseOptions(asked(given), own, api))).toMatchObject({
      no_pivot_root: true,
      binary_name: '/usr/sbin/runc',
      root: '/r',
      systemd_cgroup: false,
      task_api_address: '',
      task_api_version: 0,
    })
    const ours = { binary_name: '/usr/bin/crun', root: '/run/sandboxerd/runtime/crun' }
    expect(read(pauseOptions(asked({}), own, api))).toMatchObject(ours)
    expect(read(pauseOptions(null, own, api))).toMatchObject(ours)
    const other = { typeUrl: 'runtimeoptions.v1.Options', value: '' }
    expect(pauseOptions(other, { ...own, runtimeType: 'io.containerd.kata.v2' }, api)).toBe(other)
  })
})

describe('containerId', () => {
  it.each([
    ['/kubepods/pod1/abc', 'abc'],
    ['/kubepods.slice/kubepods-pod1.slice/cri-containerd-abc.scope', 'abc'],
    ['/abc.scope', 'abc'],
    ['/', ''],
  ])('of %s is %s', (cgroup, id) => expect(containerId(cgroup)).toBe(id))
})

describe('ShimEvents', () => {
  it('tells of OOM and exits, takes everything else, and ends a subscription', async () => {
    const socketPath = join(directory, 'events.sock')
    await using events = new ShimEvents({ socketPath }, { messages: api })
    await events.listen()
    using connection = await connectTtrpc(
      { path: socketPath },
      { address: socketPath, metadata: {} },
      { messages: api.ttrpc },
      { timeoutMs: 5000, signal },
    )
    const { service } = api.containerd.services.events.ttrpc.v1.Events
    const { TaskOOM, TaskExit } = api.containerd.events
    const send = (type_url: string, value: Buffer) =>
      connection.call(
        'containerd.services.events.ttrpc.v1.Events',
        'Forward',
        service.Forward,
        { envelope: { topic: '/t', namespace: 'k8s.io', event: { type_url, value } } },
        { timeoutMs: 5000, signal },
      )
    const seen: TaskEvent[] = []
    const subscription = events.subscribe((event) => seen.push(event))
    await send('containerd.events.TaskOOM', TaskOOM.serialize({ container_id: 'a' }))
    const exited_at = { seconds: '5', nanos: 7 }
    await send(
      'type.googleapis.com/containerd.events.TaskExit',
      TaskExit.serialize({ container_id: 'a', id: 'x', exit_status: 3, exited_at }),
    )
    await send('containerd.events.TaskStart', Buffer.alloc(0))
    await send('no such thing', Buffer.from([0xff]))
    subscription[Symbol.dispose]()
    await send('containerd.events.TaskOOM', TaskOOM.serialize({ container_id: 'b' }))
    expect(seen).toEqual([
      { kind: 'oom', containerId: 'a' },
      { kind: 'exit', containerId: 'a', processId: 'x', code: 3, atNs: 5_000_000_007n },
    ])
  })
})
