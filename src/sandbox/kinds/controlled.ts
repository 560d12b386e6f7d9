import type { ControllerRecord } from '../../controller/controller.ts'
import type { ControllerRegistry } from '../../controller/registry.ts'
import { CodedError } from '../../core/errors.ts'
import type { OwnedResource, ResourceKind } from '../../core/resource.ts'

/** A sandbox at its controller. */
export interface ControlledRecord {
  readonly sandboxer: string
  readonly record: ControllerRecord
}

/** Sandboxes at controllers: pause containers, pinned namespaces, remote sandboxes. */
export class ControlledSandboxes implements ResourceKind<ControlledRecord> {
  readonly kind = 'controller'
  readonly #registry: ControllerRegistry

  constructor(deps: { readonly registry: ControllerRegistry }) {
    this.#registry = deps.registry
  }

  parse(record: unknown): ControlledRecord {
    const { sandboxer, record: inner } = (record ?? {}) as Partial<ControlledRecord>
    if (typeof sandboxer !== 'string') throw new CodedError('DataLoss', 'controller record: it names no sandboxer')
    return { sandboxer, record: this.#registry.get(sandboxer).parse(inner) }
  }

  async release(record: ControlledRecord, signal: AbortSignal): Promise<void> {
    await this.#registry.get(record.sandboxer).shutdown(record.record, signal)
  }

  async probe(record: ControlledRecord): Promise<boolean> {
    const status = await this.#registry.get(record.sandboxer).status(record.record, null)
    return status.state === 'running'
  }

  async listOwned(): Promise<readonly OwnedResource[]> {
    return (await Promise.all(this.#registry.all().map((controller) => controller.listOwned()))).flat()
  }
}
