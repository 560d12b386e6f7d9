import { type ServiceError, status } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ContainerEventResponse__Output } from '../../../src/generated/runtime/v1/ContainerEventResponse.ts'
import type { LifecycleEvent } from '../../../src/lifecycle/events.ts'
import { podConfig } from '../../support/fake-sandboxes.ts'
import { type CriServer, startCri } from './cri-server.ts'

const PROBE = 'probe'
/** More than HTTP/2 sends to a client that does not read. */
const LARGE = podConfig({ annotations: { text: 'x'.repeat(1024 * 1024) } })

let server: CriServer

beforeEach(async () => {
  server = await startCri()
})
afterEach(async () => await server[Symbol.asyncDispose]())

function publish(changes: Partial<LifecycleEvent>): void {
  server.events.publish({ type: 'STARTED', containerId: 'c', sandboxId: 's', atNs: 0n, ...changes })
}

class Subscription {
  readonly received: ContainerEventResponse__Output[] = []
  readonly ended: Promise<ServiceError>
  readonly #call = server.client.GetContainerEvents({})

  private constructor() {
    this.#call.on('data', (event: ContainerEventResponse__Output) => this.received.push(event))
    this.ended = new Promise((resolve) => {
      this.#call.on('error', (error) => resolve(error as ServiceError))
    })
  }

  /** Returns once events arrive. */
  static async open(): Promise<Subscription> {
    const subscription = new Subscription()
    await vi.waitFor(() => {
      publish({ containerId: PROBE })
      expect(subscription.received.length).toBeGreaterThan(0)
    })
    return subscription
  }

  pause(): void {
    this.#call.pause()
  }

  resume(): void {
    this.#call.resume()
  }

  cancel(): void {
    this.#call.cancel()
  }

  /** What came beside the probes. */
  get events(): ContainerEventResponse__Output[] {
    return this.received.filter((event) => event.container_id !== PROBE)
  }

  async waitForEvents(count: number): Promise<ContainerEventResponse__Output[]> {
    await vi.waitFor(() => expect(this.events.length).toBeGreaterThanOrEqual(count), { timeout: 10_000 })
    return this.events
  }
}

describe('GetContainerEvents', () => {
  it('shows the pod with all its containers as they were when it happened', async () => {
    const pod = server.sandboxes.add()
    const sandboxId = pod.metadata.id
    const [first, second] = [
      server.containers.add({ metadata: { sandboxId } }),
      server.containers.add({ metadata: { sandboxId } }),
    ]
    server.containers.add({ metadata: { sandboxId: 'another' } })
    const subscription = await Subscription.open()
    const containerId = first.metadata.id
    const before = BigInt(Date.now()) * 1_000_000n
    publish({ type: 'CREATED', containerId, sandboxId })
    server.containers.change(containerId, { state: 'RUNNING', startedAtNs: 5n })
    publish({ type: 'STARTED', containerId, sandboxId })
    server.containers.change(containerId, { state: 'EXITED', exit: { code: 3, atNs: 6n, reason: 'Exited' } })
    publish({ type: 'STOPPED', containerId, sandboxId, atNs: 6n })
    await server.containers.remove(containerId, new AbortController().signal)
    publish({ type: 'DELETED', containerId, sandboxId })

    const events = await subscription.waitForEvents(4)
    expect(events.map((event) => event.container_event_type)).toEqual([
      'CONTAINER_CREATED_EVENT',
      'CONTAINER_STARTED_EVENT',
      'CONTAINER_STOPPED_EVENT',
      'CONTAINER_DELETED_EVENT',
    ])
    for (const event of events) {
      expect(event.container_id).toBe(containerId)
      expect(BigInt(event.created_at)).toBeGreaterThanOrEqual(before)
      expect(event.pod_sandbox_status).toMatchObject({
        id: sandboxId,
        state: 'SANDBOX_READY',
        network: { ip: '10.88.0.2' },
      })
    }
    const states = events.map((event) =>
      event.containers_statuses.map(({ id, state, exit_code }) => [id, state, exit_code]),
    )
    const other = [second.metadata.id, 'CONTAINER_CREATED', 0]
    expect(states).toEqual([
      [other, [containerId, 'CONTAINER_CREATED', 0]],
      [other, [containerId, 'CONTAINER_RUNNING', 0]],
      [other, [containerId, 'CONTAINER_EXITED', 3]],
      [other],
    ])
  })

  it('shows no pod where it is gone', async () => {
    const subscription = await Subscription.open()
    publish({ type: 'DELETED', containerId: 'gone', sandboxId: 'gone' })
    const [event] = await subscription.waitForEvents(1)
    expect(event).toMatchObject({ pod_sandbox_status: null, containers_statuses: [] })
  })

  it('never tells of something as earlier than it happened', async () => {
    const subscription = await Subscription.open()
    const atNs = BigInt(Date.now()) * 1_000_000n + 3_600_000_000_000n
    publish({ atNs })
    const [event] = await subscription.waitForEvents(1)
    expect(event?.created_at).toBe(atNs.toString())
  })

  it('looks at nothing when nobody listens, also when those who did have left', async () => {
    const list = vi.spyOn(server.containers, 'list')
    publish({})
    expect(list).not.toHaveBeenCalled()
    const subscription = await Subscription.open()
    subscription.cancel()
    await vi.waitFor(() => {
      list.mockClear()
      publish({})
      expect(list).not.toHaveBeenCalled()
    })
  })

  it('cuts off a subscriber that does not read, and holds up nobody for it', async () => {
    const sandboxId = server.sandboxes.add({}, LARGE).metadata.id
    const slow = await Subscription.open()
    const quick = await Subscription.open()
    slow.pause()
    const containerIds: string[] = []
    for (let at = 0; at < 1200; at += 1) {
      const containerId = `c${at}`
      containerIds.push(containerId)
      // The first ones fill what lies between; the others are small.
      publish({ containerId, sandboxId: at < 20 ? sandboxId : 'small' })
      if (at % 100 === 99) await quick.waitForEvents(at + 1)
    }
    expect(quick.events.map((event) => event.container_id)).toEqual(containerIds)
    slow.resume()
    expect(await slow.ended).toMatchObject({ code: status.RESOURCE_EXHAUSTED })
    const seen = slow.events.map((event) => event.container_id)
    expect(seen).toEqual(containerIds.slice(0, seen.length))
    publish({ containerId: 'last' })
    await quick.waitForEvents(1201)
  })

  it('ends for all when the daemon stops, so that the server closes at once, and takes nobody on', async () => {
    const subscriptions = [await Subscription.open(), await Subscription.open()]
    server.events[Symbol.dispose]()
    const late = server.client.GetContainerEvents({})
    const refused = new Promise((resolve) => {
      late.on('error', resolve)
    })
    late.resume()
    expect(await refused).toMatchObject({ code: status.UNAVAILABLE })
    // Longer than the test may take.
    await server.close(60_000)
    for (const { ended } of subscriptions) expect(await ended).toMatchObject({ code: status.UNAVAILABLE })
  })

  it('does not keep the server open for a subscriber that does not read', async () => {
    const sandboxId = server.sandboxes.add({}, LARGE).metadata.id
    const subscription = await Subscription.open()
    subscription.pause()
    for (let at = 0; at < 20; at += 1) publish({ sandboxId })
    server.events[Symbol.dispose]()
    await server.close(200)
    expect((await subscription.ended).code).not.toBe(status.OK)
  })
})
