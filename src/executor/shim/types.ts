import type { TaskEndpoint, TaskRecord } from '../types.ts'
import type { ProcessIdentity } from '../../host/process.ts'

/** Options as they go into a Create call; see {@link TaskRecord}. */
export type TaskOptions = NonNullable<TaskRecord['options']>

/** One shim: JSON, and all that it takes to find and remove it, whatever was done of it. */
export interface ShimRecord {
  /** Its own: that of the sandbox, or of a shim that was started before there was the sandbox. */
  readonly id: string
  /** containerd namespace. */
  readonly namespace: string
  /** Absolute path of the shim's program. */
  readonly binary: string
  /** Its working directory, named after the id; holds config.json. That of the first task, or one of its own. */
  readonly bundleDir: string
  /** The sandbox: the id of its first task, and the bundle of that, which is owned by whoever made the record. */
  readonly task: { readonly id: string; readonly bundleDir: string }
  /** Where containerd would serve: it tells our shims from those of others. */
  readonly ownerAddress: string
  /** Path of the ttrpc socket where it sends its events. */
  readonly eventsAddress: string
  /** Where the pod's network namespace is pinned; `''` for the node's. */
  readonly netnsPath: string
  /** Of its runtime; null without any. */
  readonly options: TaskOptions | null
}

/** A shim that was started. */
export interface StartedShim {
  readonly endpoint: TaskEndpoint
  readonly process: ProcessIdentity
}
