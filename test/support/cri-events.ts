import type { ClientReadableStream } from '@grpc/grpc-js'
import type { ContainerEventResponse__Output } from '../../src/generated/runtime/v1/ContainerEventResponse.ts'
import type { RuntimeServiceClient } from '../../src/generated/runtime/v1/RuntimeService.ts'

/** A subscription to GetContainerEvents, from its beginning to its disposal. */
export class EventStream implements Disposable {
  readonly #call: ClientReadableStream<ContainerEventResponse__Output>
  readonly #events: ContainerEventResponse__Output[] = []
  #error: unknown

  constructor(client: RuntimeServiceClient) {
    this.#call = client.GetContainerEvents({})
    this.#call.on('data', (event: ContainerEventResponse__Output) => this.#events.push(event))
    this.#call.on('error', (error) => {
      this.#error = error
    })
  }

  /** All that have come. */
  get events(): readonly ContainerEventResponse__Output[] {
    return this.#events
  }

  /** What ended the stream, if anything did. */
  get error(): unknown {
    return this.#error
  }

  /** Stops reading, as a client does that hangs. */
  pause(): void {
    this.#call.pause()
  }

  /** `CREATED`, `STARTED`, … of a container, in the order in which they came. */
  typesOf(id: string): string[] {
    return this.#events
      .filter((event) => event.container_id === id)
      .map((event) => event.container_event_type.replace(/^CONTAINER_(.*)_EVENT$/, '$1'))
  }

  [Symbol.dispose](): void {
    this.#call.cancel()
  }
}
