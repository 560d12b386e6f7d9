import type { MethodDefinition } from '@grpc/proto-loader'
import { type Observer, UNOBSERVED } from '../../core/observer.ts'
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
import type { TaskDefinition } from '../../generated/containerd/task/v3/Task.ts'
import type { UpdateTaskRequest } from '../../generated/containerd/task/v3/UpdateTaskRequest.ts'
import type { WaitRequest } from '../../generated/containerd/task/v3/WaitRequest.ts'
import type { WaitResponse__Output } from '../../generated/containerd/task/v3/WaitResponse.ts'
import type { TaskChannel } from './task-channel.ts'
import type { TaskCall, TaskService } from './types.ts'

/** A {@link TaskService} over a channel that is looked up for each call. */
export class ChannelTaskService implements TaskService {
  readonly #service: string
  readonly #definition: TaskDefinition
  readonly #channel: () => TaskChannel
  readonly #observer: Observer

  /** @param service its full name, of version 2 or 3. @param definition of version 3. */
  constructor(
    service: string,
    definition: TaskDefinition,
    channel: () => TaskChannel,
    observer: Observer = UNOBSERVED,
  ) {
    this.#observer = observer
    this.#service = service
    this.#definition = definition
    this.#channel = channel
  }

  async create(request: CreateTaskRequest, call: TaskCall): Promise<CreateTaskResponse__Output> {
    return this.#call('Create', this.#definition.Create, request, call)
  }

  async start(request: StartRequest, call: TaskCall): Promise<StartResponse__Output> {
    return this.#call('Start', this.#definition.Start, request, call)
  }

  async state(request: StateRequest, call: TaskCall): Promise<StateResponse__Output> {
    return this.#call('State', this.#definition.State, request, call)
  }

  async delete(request: DeleteRequest, call: TaskCall): Promise<DeleteResponse__Output> {
    return this.#call('Delete', this.#definition.Delete, request, call)
  }

  async pids(request: PidsRequest, call: TaskCall): Promise<PidsResponse__Output> {
    return this.#call('Pids', this.#definition.Pids, request, call)
  }

  async kill(request: KillRequest, call: TaskCall): Promise<void> {
    await this.#call('Kill', this.#definition.Kill, request, call)
  }

  async exec(request: ExecProcessRequest, call: TaskCall): Promise<void> {
    await this.#call('Exec', this.#definition.Exec, request, call)
  }

  async resizePty(request: ResizePtyRequest, call: TaskCall): Promise<void> {
    await this.#call('ResizePty', this.#definition.ResizePty, request, call)
  }

  async closeIo(request: CloseIORequest, call: TaskCall): Promise<void> {
    await this.#call('CloseIO', this.#definition.CloseIO, request, call)
  }

  async update(request: UpdateTaskRequest, call: TaskCall): Promise<void> {
    await this.#call('Update', this.#definition.Update, request, call)
  }

  async wait(request: WaitRequest, call: TaskCall): Promise<WaitResponse__Output> {
    // It lasts as long as the process: nothing that is measured.
    return this.#channel().call(this.#service, 'Wait', this.#definition.Wait, request, call)
  }

  async stats(request: StatsRequest, call: TaskCall): Promise<StatsResponse__Output> {
    return this.#call('Stats', this.#definition.Stats, request, call)
  }

  async connect(request: ConnectRequest, call: TaskCall): Promise<ConnectResponse__Output> {
    return this.#call('Connect', this.#definition.Connect, request, call)
  }

  async shutdown(request: ShutdownRequest, call: TaskCall): Promise<void> {
    await this.#call('Shutdown', this.#definition.Shutdown, request, call)
  }

  async #call<Request extends object, Response, RequestOutput, ResponseOutput extends object>(
    method: string,
    definition: MethodDefinition<Request, Response, RequestOutput, ResponseOutput>,
    request: Request,
    call: TaskCall,
  ): Promise<ResponseOutput> {
    return this.#observer.run({ kind: 'runtime', name: method, runtime: 'task' }, () =>
      this.#channel().call(this.#service, method, definition, request, call),
    )
  }
}
