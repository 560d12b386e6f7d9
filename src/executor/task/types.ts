import type { CloseIORequest } from '../../generated/containerd/task/v3/CloseIORequest.ts'
import type { ConnectRequest } from '../../generated/containerd/task/v3/ConnectRequest.ts'
import type { ConnectResponse__Output } from '../../generated/containerd/task/v3/ConnectResponse.ts'
import type { CreateTaskRequest } from '../../generated/containerd/task/v3/CreateTaskRequest.ts'
import type { CreateTaskResponse__Output } from '../../generated/containerd/task/v3/CreateTaskResponse.ts'
import type { DeleteRequest } from '../../generated/containerd/task/v3/DeleteRequest.ts'
import type { DeleteResponse__Output } from '../../generated/containerd/task/v3/DeleteResponse.ts'
import type { ExecProcessRequest } from '../../generated/containerd/task/v3/ExecProcessRequest.ts'
import type { KillRequest } from '../../generated/containerd/task/v3/KillRequest.ts'
import type { PidsRequest } from '../../generated/containerd/task/v3/PidsRequest.ts'
import type { PidsResponse__Output } from '../../generated/containerd/task/v3/PidsResponse.ts'
import type { ResizePtyRequest } from '../../generated/containerd/task/v3/ResizePtyRequest.ts'
import type { ShutdownRequest } from '../../generated/containerd/task/v3/ShutdownRequest.ts'
import type { StartRequest } from '../../generated/containerd/task/v3/StartRequest.ts'
import type { StartResponse__Output } from '../../generated/containerd/task/v3/StartResponse.ts'
import type { StateRequest } from '../../generated/containerd/task/v3/StateRequest.ts'
import type { StateResponse__Output } from '../../generated/containerd/task/v3/StateResponse.ts'
import type { StatsRequest } from '../../generated/containerd/task/v3/StatsRequest.ts'
import type { StatsResponse__Output } from '../../generated/containerd/task/v3/StatsResponse.ts'
import type { UpdateTaskRequest } from '../../generated/containerd/task/v3/UpdateTaskRequest.ts'
import type { WaitRequest } from '../../generated/containerd/task/v3/WaitRequest.ts'
import type { WaitResponse__Output } from '../../generated/containerd/task/v3/WaitResponse.ts'
import type { TaskEndpoint } from '../types.ts'

/** The limits of one call. */
export interface TaskCall {
  /** 0 is none: only for `wait`. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/**
 * The Task service of one endpoint (containerd.task.v3, or v2 by the endpoint's version), over ttrpc or gRPC as its address
 * says. Connected at the first call, and again after the connection was lost.
 *
 * Each call throws a CodedError with the code that the peer gave: `NotFound` for a process that it does not know or that
 * has ended, `Unavailable` when it cannot be reached or the connection was lost, `DeadlineExceeded`, or the reason of the
 * aborted signal.
 */
export interface TaskService {
  create(request: CreateTaskRequest, call: TaskCall): Promise<CreateTaskResponse__Output>
  start(request: StartRequest, call: TaskCall): Promise<StartResponse__Output>
  state(request: StateRequest, call: TaskCall): Promise<StateResponse__Output>
  delete(request: DeleteRequest, call: TaskCall): Promise<DeleteResponse__Output>
  pids(request: PidsRequest, call: TaskCall): Promise<PidsResponse__Output>
  kill(request: KillRequest, call: TaskCall): Promise<void>
  exec(request: ExecProcessRequest, call: TaskCall): Promise<void>
  resizePty(request: ResizePtyRequest, call: TaskCall): Promise<void>
  closeIo(request: CloseIORequest, call: TaskCall): Promise<void>
  update(request: UpdateTaskRequest, call: TaskCall): Promise<void>
  wait(request: WaitRequest, call: TaskCall): Promise<WaitResponse__Output>
  stats(request: StatsRequest, call: TaskCall): Promise<StatsResponse__Output>
  connect(request: ConnectRequest, call: TaskCall): Promise<ConnectResponse__Output>
  shutdown(request: ShutdownRequest, call: TaskCall): Promise<void>
}

/** The Task services of this node, one connection for each address. */
export interface TaskServices {
  /**
   * The service at an endpoint; no call is made yet.
   * @throws CodedError `FailedPrecondition` for an address or a version that cannot be spoken to, naming it.
   */
  at(endpoint: TaskEndpoint): TaskService
}

/** A container or a command as a sandboxer is told of it before it is made (`extensions.tasks`). */
export interface AnnouncedTask {
  readonly task_id: string
  /** The OCI runtime specification. */
  readonly spec: unknown
  readonly rootfs: readonly { readonly type: string; readonly source: string; readonly options: readonly string[] }[]
  readonly stdin: string
  readonly stdout: string
  readonly stderr: string
  readonly processes: readonly AnnouncedProcess[]
}

export interface AnnouncedProcess {
  readonly exec_id: string
  /** A process of the OCI runtime specification. */
  readonly spec: unknown
  readonly stdin: string
  readonly stdout: string
  readonly stderr: string
}

/** Tells the sandboxer of a sandbox all the tasks that it shall have, before one is made and after one has gone. */
export interface TaskAnnouncer {
  /** @throws CodedError as the sandboxer answers. */
  announce(sandboxId: string, tasks: readonly AnnouncedTask[], signal: AbortSignal): Promise<void>
}

/** What shims tell by themselves. It may come late, twice, or never. */
export type TaskEvent =
  | { readonly kind: 'oom'; readonly containerId: string }
  | {
      readonly kind: 'exit'
      readonly containerId: string
      /** The container's, or that of a command in it. */
      readonly processId: string
      readonly code: number
      readonly atNs: bigint
    }

export interface TaskEvents {
  /** Calls back for every event from now on, until disposed of. */
  subscribe(onEvent: (event: TaskEvent) => void): Disposable
}
