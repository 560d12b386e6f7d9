import { join } from 'node:path'
import { canonicalJson } from '../../core/canonical-json.ts'
import { CodedError } from '../../core/errors.ts'
import type { OwnedResource, ResourceKind } from '../../core/resource.ts'
import type { ConmonExecutor } from '../../executor/conmon-executor.ts'
import type { ContainerRecord } from '../../executor/types.ts'
import { CONTAINER_KIND } from '../../store/ledger.ts'
import type { Container } from '../container.ts'
import { type ContainerRoots, containersDir } from '../paths.ts'

/** Containers at the executor: monitor, processes, cgroup and the runtime's state. */
export class ExecutedContainers implements ResourceKind<ContainerRecord> {
  readonly kind = CONTAINER_KIND
  readonly #parent: string
  readonly #executor: ConmonExecutor

  constructor(roots: ContainerRoots, deps: { readonly executor: ConmonExecutor }) {
    this.#parent = containersDir(roots.state)
    this.#executor = deps.executor
  }

  /** A cgroup is emptied by SIGKILL and state directories are deleted by this record: it may only name our own. */
  parse(record: unknown): ContainerRecord {
    const { id, runtime, bundleDir, cgroupsPath, ownedCgroupParents } = (record ?? {}) as Partial<ContainerRecord>
    const isOurs =
      typeof id === 'string' &&
      /^[0-9a-f]{64}$/.test(id) &&
      bundleDir === join(this.#parent, id) &&
      Array.isArray(ownedCgroupParents) &&
      cgroupsPath?.endsWith(id) === true &&
      typeof runtime?.path === 'string' &&
      typeof runtime.root === 'string'
    if (!isOurs)
      throw new CodedError('DataLoss', `container record: ${canonicalJson(record ?? null)} is not one of ours`)
    return record as ContainerRecord
  }

  /**
   * The record of a container; null when nothing of it is left.
   * @throws CodedError as {@link parse}.
   */
  of(container: Pick<Container, 'entries'>): ContainerRecord | null {
    const entry = container.entries.find(({ kind }) => kind === CONTAINER_KIND)
    return entry ? this.parse(entry.record) : null
  }

  async release(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    await this.#executor.delete(record, signal)
  }

  async probe(record: ContainerRecord): Promise<boolean> {
    return (await this.#executor.findProcess(record)) !== null
  }

  async listOwned(): Promise<readonly OwnedResource[]> {
    return this.#executor.listOwned().map(({ id, pid }) => ({ ownerId: id, subject: `conmon ${pid}` }))
  }
}
