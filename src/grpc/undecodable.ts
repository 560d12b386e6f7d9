import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js'
import { errorMessage, invalidField } from '../core/errors.ts'

/** Stands in for a request whose bytes are not the message they should be. */
export class UndecodableRequest {
  readonly error: Error

  constructor(error: Error) {
    this.error = error
  }
}

/**
 * A service whose methods get an {@link UndecodableRequest} where grpc-js would answer INTERNAL by itself: bytes that
 * are no message are the caller's mistake, not ours.
 */
export function tolerantOfBadBytes(service: ServiceDefinition): ServiceDefinition {
  return Object.fromEntries(Object.entries(service).map(([name, method]) => [name, tolerant(method)]))
}

function tolerant(method: MethodDefinition<unknown, unknown>): MethodDefinition<unknown, unknown> {
  return {
    ...method,
    requestDeserialize: (bytes) => {
      try {
        return method.requestDeserialize(bytes)
      } catch (error) {
        return new UndecodableRequest(
          invalidField('request', `not a message of ${method.path}: ${errorMessage(error)}`),
        )
      }
    },
  }
}
