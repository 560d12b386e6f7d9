import { join } from 'node:path'
import { canonicalJson } from '../../core/canonical-json.ts'
import { CodedError } from '../../core/errors.ts'
import type { OwnedResource, ResourceKind } from '../../core/resource.ts'
import type { ConmonExecutor } from '../../executor/conmon-executor.ts'
import type { Executors } from '../../executor/executors.ts'
import { type ContainerRecord, type ExecutedRecord, isTask, type TaskRecord } from '../../executor/types.ts'
import type { ProcessIdentity } from '../../host/process.ts'
import { CONTAINER_KIND } from '../../store/ledger.ts'
import type { Container } from '../container.ts'
import type { Orphans } from '../orphans.ts'
import { type ContainerRoots, containersDir } from '../paths.ts'
import type { Pods } from '../pods.ts'

export interface ExecutedDeps {
  readonly executor: Pick<Executors, 'delete' | 'findProcess'>
  readonly conmon: Pick<ConmonExecutor, 'listOwned'>
  readonly orphans: Pick<Orphans, 'end' | 'reap'>
  readonly pods: Pick<Pods, 'endpoint'>
}

const PROBE_MS = 10_000

/** Containers at their executors: processes, cgroups, and what a monitor, a runtime or a Task service has of them. */
export class ExecutedContainers implements ResourceKind<ExecutedRecord> {
  readonly kind = CONTAINER_KIND
  readonly #parent: string
  readonly #deps: ExecutedDeps

  constructor(roots: ContainerRoots, deps: ExecutedDeps) {
    this.#parent = containersDir(roots.state)
    this.#deps = deps
  }

  /** A cgroup is emptied by SIGKILL and state directories are deleted by this record: it may only name our own. */
  parse(record: unknown): ExecutedRecord {
    const { id, bundleDir, cgroupsPath } = (record ?? {}) as Partial<ExecutedRecord>
    const isOurs =
      typeof id === 'string' &&
      /^[0-9a-f]{64}$/.test(id) &&
      bundleDir === join(this.#parent, id) &&
      typeof cgroupsPath === 'string' &&
      cgroupsPath.endsWith(id)
    const known = (record ?? {}) as ExecutedRecord
    if (isOurs && !isTask(known) && isContainerRecord(known)) return known
    if (isOurs && isTask(known) && isTaskRecord(known)) return this.#moved(known)
    throw new CodedError('DataLoss', `container record: ${canonicalJson(record ?? null)} is not one of ours`)
  }

  /** A sandboxer may offer its Task service elsewhere after it was started anew. */
  #moved(record: TaskRecord): TaskRecord {
    const now = this.#deps.pods.endpoint(record.sandboxId)
    return now ? { ...record, endpoint: { address: now.address, version: now.version } } : record
  }

  /**
   * The record of a container; null when nothing of it is left.
   * @throws CodedError as {@link parse}.
   */
  of(container: Pick<Container, 'entries'>): ExecutedRecord | null {
    const entry = container.entries.find(({ kind }) => kind === CONTAINER_KIND)
    return entry ? this.parse(entry.record) : null
  }

  /**
   * The record of a container with a process, to look at that and to signal it: also where its own cannot be read, since
   * conmon's processes are told by their identity alone.
   * @throws CodedError `DataLoss` for a process that only a Task service knows, which cannot be told without a record.
   */
  ofProcess(container: Pick<Container, 'id' | 'entries'>, process: ProcessIdentity): ExecutedRecord {
    try {
      return this.of(container) ?? unreadRecord(container.id)
    } catch (error) {
      if (!(error instanceof CodedError) || process.startTime === '') throw error
      return unreadRecord(container.id)
    }
  }

  async release(record: ExecutedRecord, signal: AbortSignal): Promise<void> {
    const { executor, orphans } = this.#deps
    try {
      await executor.delete(record, signal)
    } catch (error) {
      if (!(await orphans.end(record, error, signal))) throw error
      return
    }
    // A Task service that is gone is success as well.
    if (isTask(record)) await orphans.reap(record, signal)
  }

  async probe(record: ExecutedRecord): Promise<boolean> {
    return (await this.#deps.executor.findProcess(record, AbortSignal.timeout(PROBE_MS))) !== null
  }

  /** Task services have no list that we could ask for. */
  async listOwned(): Promise<readonly OwnedResource[]> {
    return this.#deps.conmon
      .listOwned()
      .filter(({ id, bundleDir }) => bundleDir === join(this.#parent, id))
      .map(({ id, pid }) => ({ ownerId: id, subject: `conmon ${pid}` }))
  }
}

function unreadRecord(id: string): ContainerRecord {
  const runtime = { path: '', root: '', systemdCgroup: false }
  return { id, runtime, bundleDir: '', cgroupsPath: '', ownedCgroupParents: [] }
}

function isContainerRecord({ runtime, ownedCgroupParents }: Partial<ContainerRecord>): boolean {
  return Array.isArray(ownedCgroupParents) && typeof runtime?.path === 'string' && typeof runtime.root === 'string'
}

const ADDRESS = /^(?:(?:ttrpc|grpc)\+)?(?:(?:unix|vsock|hvsock):\/\/)?[\x21-\x7e]{1,1024}$/
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

function isTaskRecord({ sandboxId, endpoint, announced, options }: Partial<TaskRecord>): boolean {
  return (
    /^[0-9a-f]{64}$/.test(sandboxId ?? '') &&
    typeof endpoint?.address === 'string' &&
    ADDRESS.test(endpoint.address) &&
    Number.isInteger(endpoint.version) &&
    endpoint.version >= 0 &&
    typeof announced === 'boolean' &&
    (options === null || (typeof options?.typeUrl === 'string' && BASE64.test(options.value)))
  )
}
