import type { CgroupDriver } from './validate-linux.ts'

/** Whether a part of the node can run pods. */
export interface Condition {
  readonly isTrue: boolean
  /** One word in CamelCase, for programs; `''` when all is well. */
  readonly reason: string
  /** For people; `''` when all is well. */
  readonly message: string
}

export interface RuntimeHandlerStatus {
  /** `''` is the default handler. */
  readonly name: string
  readonly hasRecursiveReadOnlyMounts: boolean
  readonly hasUserNamespaces: boolean
}

/** What the CRI front tells of the node as a whole. Every answer is at hand: none waits for anything. */
export interface NodeStatus {
  readonly cgroupDriver: CgroupDriver
  runtimeHandlers(): readonly RuntimeHandlerStatus[]
  runtimeCondition(): Condition
  networkCondition(): Condition
  /** What a verbose Status adds, by topic. Values are JSON; bigint is allowed. */
  verbose(): Readonly<Record<string, unknown>>
  /** Takes over the pod network ranges of the node, at least one; valid CIDRs. */
  updatePodCidrs(cidrs: readonly string[]): void
}
