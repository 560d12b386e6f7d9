import { Metadata, status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { eventually } from '../../support/pod-facts.ts'
import { type Controller, controllerServers, type ControllerServer, PodSandboxConfig } from './controller-server.ts'

type Client = InstanceType<typeof Controller>
type Method = 'Create' | 'Start' | 'Platform' | 'Stop' | 'Wait' | 'Status' | 'Shutdown' | 'Metrics' | 'Update'

const start = controllerServers()
const ID = 'a'.repeat(64)
const config = { metadata: { name: 'web', namespace: 'default', uid: 'u', attempt: 0 } }
const options = { type_url: 'runtime.v1.PodSandboxConfig', value: PodSandboxConfig.serialize(config) }

type Send = (request: object, headers: Metadata, answered: (error: Error | null, answer?: unknown) => void) => void

function call(client: Client, method: Method, request: object, headers: Record<string, string> = {}): Promise<unknown> {
  const metadata = new Metadata()
  for (const [key, value] of Object.entries(headers)) metadata.set(key, value)
  return new Promise((resolve, reject) => {
    const send = client[method].bind(client) as Send
    send(request, metadata, (error, answer) => {
      if (error) reject(error)
      else resolve(answer)
    })
  })
}

async function create(server: ControllerServer, more: object = {}): Promise<void> {
  await call(server.client, 'Create', { sandbox_id: ID, options, ...more })
}

describe('Create', () => {
  it('asks for what containerd sends', async () => {
    const server = await start()
    const record = { Version: 'v1', Metadata: { IP: '10.88.0.2', AdditionalIPs: ['fd00::2', 'not one'] } }
    const request = {
      sandbox_id: ID,
      sandboxer: 'sbx',
      options,
      netns_path: '/run/netns/cni-1',
      sandbox: {
        sandbox_id: ID,
        runtime: {
          name: 'io.containerd.runc.v2',
          options: { type_url: 'containerd.runc.v1.Options', value: Buffer.from([0x48, 1]) },
        },
        extensions: {
          metadata: {
            type_url: 'github.com/containerd/cri/pkg/store/sandbox/Metadata',
            value: Buffer.from(JSON.stringify(record)),
          },
        },
      },
    }
    expect(await call(server.client, 'Create', request, { 'containerd-namespace': 'other.io' })).toEqual({
      sandbox_id: ID,
    })
    expect(server.sandboxes.requests).toMatchObject([
      {
        id: ID,
        config,
        netnsPath: '/run/netns/cni-1',
        ips: ['10.88.0.2', 'fd00::2'],
        shim: {
          runtimeType: 'io.containerd.runc.v2',
          options: { typeUrl: 'containerd.runc.v1.Options', value: 'SAE=' },
          namespace: 'other.io',
          eventsAddress: '/run/events.ttrpc',
        },
      },
    ])
    await expect(call(server.client, 'Create', request)).rejects.toMatchObject({ code: status.ALREADY_EXISTS })
  })

  it.each(['', 'PodSandboxConfig', 'runtime.v1.PodSandboxConfig', 'type.googleapis.com/runtime.v1.PodSandboxConfig'])(
    'reads a configuration of the type %j, and JSON as well',
    async (type_url) => {
      const server = await start()
      await create(server, { options: { type_url, value: options.value } })
      const json = {
        metadata: config.metadata,
        logDirectory: '/var/log',
        linux: { cgroup_parent: '/k', securityContext: { namespaceOptions: { network: 'NODE', pid: 1 } } },
        labels: { aB: 'c' },
      }
      const value = Buffer.from(JSON.stringify(json))
      await create(server, { sandbox_id: 'b'.repeat(64), options: { type_url, value } })
      expect(server.sandboxes.requests).toMatchObject([
        { config, shim: { runtimeType: 'io.containerd.runc.v2', options: null, namespace: 'k8s.io' } },
        {
          config: {
            log_directory: '/var/log',
            labels: { aB: 'c' },
            linux: {
              cgroup_parent: '/k',
              security_context: { namespace_options: { network: 'NODE', pid: 'CONTAINER', ipc: 'POD' } },
            },
          },
        },
      ])
    },
  )

  it.each([
    ['sandbox_id', { sandbox_id: '../etc' }],
    ['sandbox_id', { sandbox_id: 'A'.repeat(64) }],
    ['options', { options: null }],
    ['options', { options: { type_url: '', value: Buffer.alloc(0) } }],
    ['options.type_url', { options: { ...options, type_url: 'runtime.v1.Other' } }],
    ['options.value', { options: { type_url: '', value: Buffer.from([0xff, 0xff]) } }],
    ['options.value', { options: { type_url: '', value: Buffer.from('{"metadata":') } }],
    ['options.value', { options: { type_url: '', value: Buffer.from('{"metadata":7}') } }],
    [
      'options: config.metadata.name',
      { options: { type_url: '', value: PodSandboxConfig.serialize({ hostname: 'h' }) } },
    ],
    ['netns_path', { netns_path: 'run/netns/x' }],
    ['netns_path', { netns_path: '/run/../x' }],
    ['rootfs', { rootfs: [{ type: 'bind', source: '/x' }] }],
    ['sandbox.runtime.name', { sandbox: { runtime: { name: 'a b' } } }],
    ['sandbox.runtime.name', { sandbox: { runtime: { name: '/bin/../sh' } } }],
  ] as const)('refuses a wrong %s by its name', async (field, more) => {
    const server = await start()
    await expect(create(server, more)).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(`^${field.replace(/[.[\]]/g, '\\$&')}`) as string,
    })
    expect(server.sandboxes.requests).toEqual([])
  })
})

describe('what is asked of a sandbox', () => {
  it('is answered as front ends understand it', async () => {
    const server = await start()
    await create(server)
    expect(await call(server.client, 'Status', { sandbox_id: ID })).toMatchObject({
      sandbox_id: ID,
      state: 'SANDBOX_NOTREADY',
      pid: 0,
      info: {},
      address: '',
    })
    expect(await call(server.client, 'Start', { sandbox_id: ID })).toMatchObject({
      sandbox_id: ID,
      pid: 4711,
      created_at: { seconds: '1763692200', nanos: 123456789 },
      address: `ttrpc+unix:///run/${ID}`,
      version: 3,
      labels: { selinux_label: 'u:r:t:s0' },
    })
    expect(await call(server.client, 'Status', { sandbox_id: ID, verbose: true })).toMatchObject({
      state: 'SANDBOX_READY',
      info: { info: `{"big":"${2n ** 60n}","id":"${ID}"}` },
      exited_at: null,
      version: 3,
    })
    expect(await call(server.client, 'Metrics', { sandbox_id: ID })).toMatchObject({
      metrics: { id: ID, data: { type_url: 'io.containerd.cgroups.v1.Metrics' } },
    })
    const ended = call(server.client, 'Wait', { sandbox_id: ID })
    await eventually(
      () => Promise.resolve(server.sandboxes.waiting(ID)),
      (count) => count === 1,
    )
    await call(server.client, 'Stop', { sandbox_id: ID, timeout_secs: 3 })
    expect(server.sandboxes.calls).toEqual([`stop ${ID} 3000`])
    expect(await ended).toMatchObject({ exit_status: 137, exited_at: { seconds: '1763692300' } })
    expect(await call(server.client, 'Status', { sandbox_id: ID })).toMatchObject({
      state: 'SANDBOX_NOTREADY',
      exited_at: { seconds: '1763692300' },
    })
  })

  it('is nothing of one that there is not, but succeeds where a front end could not go on otherwise', async () => {
    const { client } = await start()
    for (const method of ['Start', 'Status', 'Wait', 'Metrics', 'Update'] as const) {
      await expect(call(client, method, { sandbox_id: 'nobody' }), method).rejects.toMatchObject({
        code: status.NOT_FOUND,
      })
    }
    expect(await call(client, 'Stop', { sandbox_id: 'nobody' })).toEqual({})
    expect(await call(client, 'Shutdown', { sandbox_id: 'nobody' })).toEqual({})
    expect(await call(client, 'Platform', {})).toMatchObject({
      platform: { os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch, variant: '' },
    })
  })
})

describe('Update', () => {
  it('keeps resources, lets tasks and everything unknown pass, and needs no sandboxer', async () => {
    const server = await start()
    await create(server)
    const any = (value: string) => ({ type_url: 'x', value: Buffer.from(value) })
    const update = (extensions: object, fields: string[]): Promise<unknown> =>
      call(server.client, 'Update', { sandbox_id: ID, sandbox: { extensions }, fields })
    await update({ 'updated-resources': any('{"Resources":{"cpu_shares":2}}') }, ['extensions'])
    await update({ tasks: any('{"tasks":[]}') }, ['extensions.tasks'])
    await update({}, ['no such field'])
    expect(server.sandboxes.calls).toEqual([
      `update ${ID} {"Resources":{"cpu_shares":2}}`,
      `update ${ID} undefined`,
      `update ${ID} undefined`,
    ])
    await expect(update({ 'updated-resources': any('{') }, [])).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
  })
})

describe('Wait', () => {
  it('is held for thousands of callers on one connection, who leave nothing behind when they go', async () => {
    const server = await start()
    await create(server)
    const count = 3000
    const calls = Array.from({ length: count }, () => {
      let cancel = (): void => undefined
      const ended = new Promise<number>((resolve) => {
        const one = server.client.Wait({ sandbox_id: ID }, (error) => resolve(error?.code ?? status.OK))
        cancel = () => one.cancel()
      })
      return { cancel, ended }
    })
    const waiting = (): Promise<number> => Promise.resolve(server.sandboxes.waiting(ID))
    expect(await eventually(waiting, (found) => found === count, 20_000)).toBe(count)
    // Others are served meanwhile.
    await call(server.client, 'Status', { sandbox_id: ID })
    // Node.js takes more than a thousand at once for an attack, and ends the connection.
    for (const { cancel } of calls.slice(0, 900)) cancel()
    expect(await eventually(waiting, (found) => found === 2100, 20_000)).toBe(2100)
    expect(server.waits.size).toBe(2100)
    await call(server.client, 'Stop', { sandbox_id: ID })
    const codes = await Promise.all(calls.map(({ ended }) => ended))
    expect(codes.filter((code) => code === status.OK)).toHaveLength(2100)
    expect(server.waits.size).toBe(0)
  }, 60_000)

  it('is told to ask the next daemon when this one ends', async () => {
    const server = await start()
    await create(server)
    const ended = call(server.client, 'Wait', { sandbox_id: ID })
    const refused = expect(ended).rejects.toMatchObject({ code: status.UNAVAILABLE })
    await eventually(
      () => Promise.resolve(server.waits.size),
      (count) => count === 1,
    )
    server.waits[Symbol.dispose]()
    await refused
    await expect(call(server.client, 'Wait', { sandbox_id: ID })).rejects.toMatchObject({ code: status.UNAVAILABLE })
  })
})

describe('any request', () => {
  const text = fc.oneof(fc.constantFrom('', ID, 'metadata', 'tasks'), fc.string({ unit: 'binary', maxLength: 70 }))
  const bytes = fc.oneof(
    fc.constant(Buffer.from(options.value)),
    fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array)),
    fc.json({ maxDepth: 3 }).map((json) => Buffer.from(json)),
    fc
      .json({ maxDepth: 2 })
      .map((json) => Buffer.from(`{"Metadata":${json},"metadata":${json},"linux":${json},"labels":${json}}`)),
  )
  const nullable = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null })
  const any = fc.record({ type_url: fc.oneof(fc.constantFrom('', options.type_url), text), value: bytes })
  const extensions = fc.dictionary(fc.constantFrom('metadata', 'tasks', 'updated-resources', '__proto__', 'x'), any, {
    maxKeys: 4,
  })
  const sandbox = fc.record({
    sandbox_id: text,
    runtime: nullable(fc.record({ name: text, options: nullable(any) })),
    labels: fc.dictionary(text, text, { maxKeys: 2 }),
    extensions,
  })
  const request = fc.record(
    {
      sandbox_id: text,
      sandboxer: text,
      options: nullable(any),
      netns_path: text,
      sandbox: nullable(sandbox),
      fields: fc.array(text, { maxLength: 3 }),
      timeout_secs: fc.nat({ max: 0xffff_ffff }),
      verbose: fc.boolean(),
    },
    { requiredKeys: [] },
  )
  const methods = ['Create', 'Start', 'Platform', 'Stop', 'Wait', 'Status', 'Shutdown', 'Metrics', 'Update'] as const

  it('is answered, and never with an error that nobody foresaw', async () => {
    const server = await start()
    const property = fc.asyncProperty(fc.constantFrom(...methods), request, async (method, given) => {
      // One that is there and does not end would be waited for.
      if (method === 'Wait') server.sandboxes.views.clear()
      const code = await call(server.client, method, given).then(
        () => status.OK,
        (error: unknown) => (error as { code: number }).code,
      )
      expect([status.OK, status.INVALID_ARGUMENT, status.NOT_FOUND, status.ALREADY_EXISTS]).toContain(code)
    })
    await fc.assert(property, { numRuns: 2000 })
  }, 60_000)

  it('that is no message at all is refused', async () => {
    const server = await start()
    const property = fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 60 }), async (garbage) => {
      const code = await new Promise<number>((resolve) => {
        server.client.makeUnaryRequest(
          '/containerd.services.sandbox.v1.Controller/Create',
          (bytes: Uint8Array) => Buffer.from(bytes),
          (bytes) => bytes,
          garbage,
          (error) => resolve(error?.code ?? status.OK),
        )
      })
      expect(code).toBe(status.INVALID_ARGUMENT)
    })
    await fc.assert(property, { numRuns: 500 })
  }, 60_000)
})
