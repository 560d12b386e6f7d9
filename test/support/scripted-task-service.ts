import { abortReason } from '../../src/core/deadline.ts'
import { CodedError } from '../../src/core/errors.ts'
import type { StateResponse__Output } from '../../src/generated/containerd/task/v3/StateResponse.ts'
import type { WaitResponse__Output } from '../../src/generated/containerd/task/v3/WaitResponse.ts'
import type { TaskCall, TaskService } from '../../src/executor/task/types.ts'

/** The part of a Task service that tells of the end of a process, without a wire: it says what the test wants. */
export class ScriptedTaskService implements Pick<TaskService, 'wait' | 'state'> {
  readonly calls: ('wait' | 'state')[] = []
  /** What State says, or throws. */
  status: StateResponse__Output['status'] | CodedError = 'RUNNING'
  exitStatus = 0
  #polls: { readonly resolve: (answer: WaitResponse__Output) => void; readonly reject: (error: unknown) => void }[] = []

  async wait(_request: object, { signal }: TaskCall): Promise<WaitResponse__Output> {
    this.calls.push('wait')
    let onAbort = (): void => undefined
    const answer = new Promise<WaitResponse__Output>((resolve, reject) => {
      this.#polls.push({ resolve, reject })
      onAbort = () => reject(abortReason(signal))
      signal.addEventListener('abort', onAbort, { once: true })
    })
    return answer.finally(() => signal.removeEventListener('abort', onAbort))
  }

  async state(): Promise<StateResponse__Output> {
    this.calls.push('state')
    if (this.status instanceof CodedError) throw this.status
    const { status, exitStatus: exit_status } = this
    const stdio = { stdin: '', stdout: '', stderr: '', terminal: false }
    return { id: 'c', bundle: '', pid: 1, status, ...stdio, exit_status, exited_at: null, exec_id: '' }
  }

  /** Answers the long polls that are under way. */
  end(exitStatus: number): void {
    const answer = { exit_status: exitStatus, exited_at: { seconds: '5', nanos: 7 } }
    for (const { resolve } of this.#polls.splice(0)) resolve(answer)
  }

  /** Breaks them off. */
  fail(error: CodedError): void {
    for (const { reject } of this.#polls.splice(0)) reject(error)
  }
}
