/** Something happened to a container, or to the process of a sandbox (then both ids are the sandbox's). */
export interface LifecycleEvent {
  readonly type: 'CREATED' | 'STARTED' | 'STOPPED' | 'DELETED'
  readonly containerId: string
  readonly sandboxId: string
  readonly atNs: bigint
}
