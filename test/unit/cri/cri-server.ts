import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type CallOptions, credentials, Metadata, type MethodDefinition, type ServiceError } from '@grpc/grpc-js'
import { pino } from 'pino'
import { CodedError } from '../../../src/core/errors.ts'
import { ContainerEvents } from '../../../src/cri/events.ts'
import type { NodeStatus } from '../../../src/cri/node-status.ts'
import { runtimeService, servedContract } from '../../../src/cri/runtime-service.ts'
import type { RuntimeServiceDefinition } from '../../../src/generated/runtime/v1/RuntimeService.ts'
import { loadCri } from '../../../src/grpc/load.ts'
import type { StreamUrls } from '../../../src/cri/streaming-handlers.ts'
import { GrpcServer } from '../../../src/grpc/server.ts'
import type { Stats } from '../../../src/stats/types.ts'
import { FakeContainers } from '../../support/fake-containers.ts'
import { FakePodCheckpoints } from '../../support/fake-pod-checkpoints.ts'
import { FakeSandboxes } from '../../support/fake-sandboxes.ts'

export const cri = loadCri().runtime.v1
export type RuntimeClient = InstanceType<typeof cri.RuntimeService>

/** A node where all is well, with what a test wants to be different. */
export function fakeNode(changes: Partial<NodeStatus> = {}): NodeStatus {
  return {
    cgroupDriver: 'cgroupfs',
    runtimeHandlers: () => [],
    runtimeCondition: () => ({ isTrue: true, reason: '', message: '' }),
    networkCondition: () => ({ isTrue: true, reason: '', message: '' }),
    verbose: () => ({}),
    updatePodCidrs: () => {},
    ...changes,
  }
}

/** URLs that say what they were asked for. */
export class FakeStreamUrls implements StreamUrls {
  readonly asked: unknown[] = []
  execUrl = (...args: unknown[]): string => this.#url('exec', args)
  attachUrl = (...args: unknown[]): string => this.#url('attach', args)
  portForwardUrl = (...args: unknown[]): string => this.#url('portforward', args)

  #url(kind: string, args: unknown[]): string {
    this.asked.push([kind, ...args])
    return `http://127.0.0.1:1/${kind}/${this.asked.length}`
  }
}

/** A node of which nothing was measured. */
const NO_STATS: Stats = {
  container: async (id) => {
    throw new CodedError('NotFound', `find container ${id}: there is none`)
  },
  sandbox: async (id) => {
    throw new CodedError('NotFound', `find sandbox ${id}: there is none`)
  },
  containers: async () => [],
  sandboxes: async () => [],
  metrics: async () => [],
}

export interface CriServer extends AsyncDisposable {
  readonly socketPath: string
  readonly client: RuntimeClient
  readonly sandboxes: FakeSandboxes
  readonly containers: FakeContainers
  readonly podCheckpoints: FakePodCheckpoints
  readonly streamUrls: FakeStreamUrls
  readonly events: ContainerEvents
  readonly logLines: string[]
  readonly close: (drainMs: number) => Promise<void>
}

/** The CRI front on a socket of its own, above fake sandboxes and containers. */
export async function startCri(
  node: NodeStatus = fakeNode(),
  switches: { readonly checkpoints: boolean } = { checkpoints: true },
): Promise<CriServer> {
  const directory = await mkdtemp(join(tmpdir(), 'sandboxerd-cri-'))
  const socketPath = join(directory, 'cri.sock')
  const logLines: string[] = []
  const logger = pino({ level: 'debug' }, { write: (line: string) => logLines.push(line) })
  const sandboxes = new FakeSandboxes()
  const containers = new FakeContainers()
  const podCheckpoints = new FakePodCheckpoints()
  const streamUrls = new FakeStreamUrls()
  const events = new ContainerEvents({ sandboxes, containers })
  const server = new GrpcServer({ socketPath, mode: 0o600, group: '' }, { logger })
  const wire = servedContract(cri.RuntimeService.service)
  const deps = {
    sandboxes,
    containers,
    podCheckpoints: switches.checkpoints ? podCheckpoints : null,
    streamUrls,
    events,
    stats: NO_STATS,
    node,
    wire,
    logger,
  }
  server.addService(wire, runtimeService({ runtimeVersion: '1.2.3', layersPath: '/layers' }, deps))
  await server.listen()
  const client = clientOf(socketPath)
  return {
    socketPath,
    client,
    sandboxes,
    containers,
    podCheckpoints,
    streamUrls,
    events,
    logLines,
    close: (drainMs) => server.close(drainMs),
    async [Symbol.asyncDispose]() {
      client.close()
      await server.close(0)
      await rm(directory, { recursive: true })
    },
  }
}

function clientOf(socketPath: string): RuntimeClient {
  return new cri.RuntimeService(`unix:${socketPath}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
  })
}

type Methods = RuntimeServiceDefinition
type RequestOf<M extends keyof Methods> = Parameters<Methods[M]['requestSerialize']>[0]
type ResponseOf<M extends keyof Methods> = ReturnType<Methods[M]['responseDeserialize']>

/** A call under way. */
export interface Asked<Response> {
  readonly answer: Promise<Response>
  readonly cancel: () => void
}

/** Starts one unary call. */
export function start<M extends keyof Methods>(
  client: RuntimeClient,
  method: M,
  request: RequestOf<M>,
  options: CallOptions = {},
): Asked<ResponseOf<M>> {
  const definition: MethodDefinition<unknown, unknown> | undefined = cri.RuntimeService.service[method]
  if (definition === undefined) throw new Error(`there is no method ${method}`)
  const { requestSerialize, responseDeserialize } = definition
  return startWith(client, definition.path, requestSerialize, responseDeserialize, request, options) as Asked<
    ResponseOf<M>
  >
}

/** One unary call. */
export function ask<M extends keyof Methods>(
  client: RuntimeClient,
  method: M,
  request: RequestOf<M>,
  options: CallOptions = {},
): Promise<ResponseOf<M>> {
  return start(client, method, request, options).answer
}

/** One call with raw bytes as its request. */
export function callWithBytes(client: RuntimeClient, method: string, bytes: Buffer): Promise<Buffer> {
  const same = (message: Buffer) => message
  return startWith(client, `/runtime.v1.RuntimeService/${method}`, same, same, bytes, {}).answer
}

function startWith<Request, Response>(
  client: RuntimeClient,
  path: string,
  serialize: (request: Request) => Buffer,
  deserialize: (bytes: Buffer) => Response,
  request: Request,
  options: CallOptions,
): Asked<Response> {
  let cancel = (): void => {}
  const answer = new Promise<Response>((resolve, reject) => {
    const callback = (error: ServiceError | null, response?: Response): void => {
      if (error !== null) reject(error)
      else if (response === undefined) reject(new Error('neither an error nor a response'))
      else resolve(response)
    }
    const call = client.makeUnaryRequest(path, serialize, deserialize, request, new Metadata(), options, callback)
    cancel = () => call.cancel()
  })
  return { answer, cancel: () => cancel() }
}
