import { CodedError } from '../core/errors.ts'
import type { OwnedResource } from '../core/resource.ts'
import { mountPoints } from '../host/mount-points.ts'

/** A mount below the state directory of a sandbox or container. */
export interface StateMountRecord {
  readonly path: string
}

export interface StateMountsOptions {
  /** The directory in which each owner has its state directory, named by its id. */
  readonly parent: string
  /** What the path in that directory is. */
  readonly name: RegExp
  /** For errors: `the shm of a sandbox`. */
  readonly what: string
}

/** What the kinds of such mounts have in common. */
export class StateMounts {
  readonly #options: StateMountsOptions

  constructor(options: StateMountsOptions) {
    this.#options = options
  }

  /** @throws CodedError `DataLoss` for a record that names anything else. */
  parse(record: unknown): StateMountRecord {
    const path = (record as Partial<StateMountRecord> | null)?.path
    if (typeof path === 'string' && this.#idOf(path) !== undefined) return { path }
    throw new CodedError('DataLoss', `record: ${JSON.stringify(record)} is not ${this.#options.what}`)
  }

  async list(): Promise<readonly OwnedResource[]> {
    return (await mountPoints(this.#options.parent)).flatMap((path) => {
      const id = this.#idOf(path)
      return id === undefined ? [] : [{ ownerId: id, subject: path }]
    })
  }

  #idOf(path: string): string | undefined {
    const { parent, name } = this.#options
    if (!path.startsWith(`${parent}/`)) return undefined
    const [, id, rest = ''] = /^([0-9a-f]{64})\/(.*)$/.exec(path.slice(parent.length + 1)) ?? []
    return name.test(rest) ? id : undefined
  }
}
