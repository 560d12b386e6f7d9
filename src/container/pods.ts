import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'
import type { OciRuntime, TaskEndpoint, TaskRecord } from '../executor/types.ts'
import type { Owner } from '../host/kernel/kernel.ts'

/** What containers need to know of the sandbox that they are in. */
export interface Pod {
  /** The whole id. */
  readonly id: string
  readonly config: PodSandboxConfig__Output
  /** Whether it runs, and can be trusted. */
  readonly ready: boolean
  /** The runtime handler with the default filled in. */
  readonly runtimeHandler: string
  /** Of its handler; for pods with `tasks` it may be one with an empty path. */
  readonly runtime: OciRuntime
  /** Where its containers are run; null: by `runtime`, under conmon. */
  readonly tasks: PodTasks | null
  readonly hostname: string
  /** Null in the node's user namespace. */
  readonly userns: PodUserns | null
  /** Files and the tmpfs that its containers share. */
  readonly files: {
    readonly hostname: string
    readonly hosts: string
    readonly resolvConf: string
    readonly shm: string
  }
}

/** The Task service that runs the containers of a pod. */
export interface PodTasks extends TaskEndpoint {
  readonly announced: boolean
  /** For the Create calls, as in {@link TaskRecord}. */
  readonly options: TaskRecord['options']
}

/** The user namespace of a pod. */
export interface PodUserns {
  /** Where it is pinned. */
  readonly path: string
  /** Whom of the node its root is. */
  readonly root: Owner
}

/** The namespaces of a pod, as paths to join; a path that is missing is one that the pod does not have for itself. */
export interface PodNamespacePaths {
  readonly net?: string
  readonly ipc?: string
  readonly uts?: string
  /** Of the process that holds the pod's shared pid namespace. */
  readonly pid?: string
}

/** The sandboxes, as containers use them. */
export interface Pods {
  /** @throws CodedError `NotFound`; `FailedPrecondition` when there is nothing that could run its containers. */
  get(sandboxId: string): Pod
  /** @throws CodedError `FailedPrecondition` when the process that holds them is gone. */
  namespaces(sandboxId: string): PodNamespacePaths
  /** The Task service that runs its containers now; null when there is none, or nothing is known of it. */
  endpoint(sandboxId: string): TaskEndpoint | null
  /** Whether it is known to have ended, or there is none: nothing of it runs any more, and nobody answers for it. */
  hasEnded(sandboxId: string): boolean
}
