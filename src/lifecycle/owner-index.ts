import { CodedError } from '../core/errors.ts'

/** A sandbox, or a container. */
export interface Owner {
  readonly metadata: {
    readonly id: string
    readonly name: string
    readonly config: { readonly labels: Readonly<Record<string, string>> }
  }
}

/** Sandboxes, or containers, by id and by name. */
export class OwnerIndex<T extends Owner> {
  readonly #byId = new Map<string, T>()
  readonly #byName = new Map<string, T>()
  readonly #field: string
  readonly #what: string

  /** @param field in which requests name one, and @param what several are called, for errors. */
  constructor(field: string, what: string) {
    this.#field = field
    this.#what = what
  }

  add(owner: T): void {
    this.#byId.set(owner.metadata.id, owner)
    this.#byName.set(owner.metadata.name, owner)
  }

  delete(owner: T): void {
    const { id, name } = owner.metadata
    this.#byId.delete(id)
    if (this.#byName.get(name) === owner) this.#byName.delete(name)
  }

  all(): T[] {
    return [...this.#byId.values()]
  }

  /** By its whole id. */
  byId(id: string): T | undefined {
    return this.#byId.get(id)
  }

  byName(name: string): T | undefined {
    return this.#byName.get(name)
  }

  /**
   * Finds one by its id, its name, or the beginning of its id.
   * @throws CodedError `InvalidArgument` when several ids begin like that.
   */
  find(reference: string): T | undefined {
    const exact = this.#byId.get(reference) ?? this.#byName.get(reference)
    if (exact || !/^[0-9a-f]{1,63}$/.test(reference)) return exact
    const matches = this.all().filter(({ metadata }) => metadata.id.startsWith(reference))
    if (matches.length <= 1) return matches[0]
    throw new CodedError('InvalidArgument', `${this.#field}: ${matches.length} ${this.#what} begin with ${reference}`)
  }
}

/** Whether it has all of these labels. */
export function hasLabels({ metadata }: Owner, wanted: Readonly<Record<string, string>> = {}): boolean {
  const { labels } = metadata.config
  return Object.entries(wanted).every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value)
}
