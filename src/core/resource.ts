/**
 * One kind of resource that outlives a function call, and the only way to have one and to give it back.
 * The ledger holds a record of each before it is acquired and until its release is confirmed.
 */
export interface ResourceKind<R> {
  readonly kind: string
  /**
   * Checks a record read back from disk before anything is done with it: paths must lie where this kind puts them.
   * @throws CodedError `DataLoss` that says what is wrong.
   */
  parse(record: unknown): R
  /** Gives the resource back. One that is gone already, or was never acquired, is success. */
  release(record: R, signal: AbortSignal): Promise<void>
  /** Whether the resource is there. */
  probe(record: R): Promise<boolean>
  /** What of this kind is on the machine and carries our mark, whoever remembers it. */
  listOwned(): Promise<readonly OwnedResource[]>
}

export interface OwnedResource {
  /** The sandbox, or the container. */
  readonly ownerId: string
  /** For people: a path, an address, a pid. */
  readonly subject: string
}
