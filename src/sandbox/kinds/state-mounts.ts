import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError } from '../../core/errors.ts'
import type { OwnedResource } from '../../core/resource.ts'
import { sandboxesDir } from '../paths.ts'

/** A mount on one path of which the state directory of each sandbox has its own. */
export interface StateMountRecord {
  readonly path: string
}

/** What the kinds of such mounts have in common. */
export class StateMounts {
  readonly #parent: string
  readonly #name: string

  /** @param name of the path in the state directory of a sandbox. */
  constructor(state: string, name: string) {
    this.#parent = sandboxesDir(state)
    this.#name = name
  }

  /** @throws CodedError `DataLoss` for a record that names anything else. */
  parse(record: unknown): StateMountRecord {
    const path = (record as Partial<StateMountRecord> | null)?.path
    if (typeof path === 'string' && this.#idOf(path) !== undefined) return { path }
    throw new CodedError('DataLoss', `record: ${JSON.stringify(record)} is not the ${this.#name} of a sandbox`)
  }

  async list(): Promise<readonly OwnedResource[]> {
    const mountinfo = await readFile('/proc/self/mountinfo', 'utf8')
    return mountinfo.split('\n').flatMap((line) => {
      const path = line.split(' ')[4] ?? ''
      const id = this.#idOf(path)
      return id === undefined ? [] : [{ ownerId: id, subject: path }]
    })
  }

  #idOf(path: string): string | undefined {
    const id = path.slice(this.#parent.length + 1, this.#parent.length + 65)
    return /^[0-9a-f]{64}$/.test(id) && path === join(this.#parent, id, this.#name) ? id : undefined
  }
}
