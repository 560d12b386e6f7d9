import { canonicalJson } from '../core/canonical-json.ts'
import type { ExitStatus } from '../executor/types.ts'
import type { ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus } from './types.ts'

/** The data of a container's checkpoint: enough to name, stop and remove it without the database. */
export interface ContainerCheckpoint {
  /** As {@link encodeMetadata} writes it. */
  readonly metadata: unknown
  /** The boot in which it was made. */
  readonly bootId: string
  /** What the ledger was told, in that order. */
  readonly resources: readonly { readonly kind: string; readonly record: unknown }[]
}

export const NEW_STATUS: ContainerStatus = {
  state: 'UNKNOWN',
  visible: false,
  removing: false,
  process: null,
  startedAtNs: 0n,
  exit: null,
  oomKilled: false,
  message: '',
  user: null,
  resources: null,
}

/** What a checkpoint of a container is sealed for. */
export function checkpointSubject(id: string): string {
  return `container ${id}`
}

/** What the database keeps of a status beside its state. */
export function encodeStatus(status: ContainerStatus): string {
  return canonicalJson({ ...status, state: undefined })
}

/** @throws Error when the text is not what {@link encodeStatus} wrote. */
export function decodeStatus(state: ContainerState, text: string): ContainerStatus {
  const { exit, startedAtNs, ...rest } = JSON.parse(text) as Omit<ContainerStatus, 'exit' | 'startedAtNs'> & {
    exit: (Omit<ExitStatus, 'atNs'> & { atNs: string }) | null
    startedAtNs: string
  }
  return {
    ...rest,
    state,
    startedAtNs: BigInt(startedAtNs),
    exit: exit && { ...exit, atNs: BigInt(exit.atNs) },
  }
}

/** A configuration as JSON has it. */
export type PlainConfig = Readonly<Record<keyof ContainerConfig, unknown>>

/** Values of the environment are bytes: base64 in JSON. */
export function plainConfig(config: ContainerConfig): PlainConfig {
  return { ...config, envs: config.envs.map(({ key, value }) => ({ key, value: value.toString('base64') })) }
}

export function plainMetadata(metadata: ContainerMetadata): unknown {
  return { ...metadata, config: plainConfig(metadata.config) }
}

export function encodeMetadata(metadata: ContainerMetadata): string {
  return canonicalJson(plainMetadata(metadata))
}

function decodeConfig(value: unknown): ContainerConfig {
  const { envs = [], ...config } = (value ?? {}) as Omit<ContainerConfig, 'envs'> & {
    envs?: readonly { readonly key: string; readonly value: string }[]
  }
  if (!config.metadata?.name) throw new TypeError('metadata: config has no name')
  return { ...config, envs: envs.map((env) => ({ key: env.key, value: Buffer.from(env.value, 'base64') })) }
}

/** @throws Error when the value does not hold the identity of a container. */
export function decodeMetadata(value: unknown): ContainerMetadata {
  const given = (value ?? {}) as Record<keyof ContainerMetadata, unknown>
  const text = (key: keyof ContainerMetadata): string => {
    const member = given[key]
    if (typeof member !== 'string') throw new TypeError(`metadata: ${key} is not a string`)
    return member
  }
  for (const key of ['id', 'sandboxId'] as const) {
    if (!/^[0-9a-f]{64}$/.test(text(key))) throw new TypeError(`metadata: ${key} is not 64 hex characters`)
  }
  return {
    id: text('id'),
    name: text('name'),
    sandboxId: text('sandboxId'),
    config: decodeConfig(given.config),
    imageId: text('imageId'),
    imageRef: text('imageRef'),
    mountedImageIds: Array.isArray(given.mountedImageIds) ? (given.mountedImageIds as string[]) : [],
    logPath: text('logPath'),
    stopSignal: text('stopSignal'),
    createdAtNs: BigInt(text('createdAtNs')),
    ...(given.restored === true ? { restored: true } : {}),
  }
}

/** Whether it was never run because its creation or its start failed, and why is told. */
export function hasFailed({ message, startedAtNs }: ContainerStatus): boolean {
  return message !== '' && startedAtNs === 0n
}

/** The times of files, by which ends are known, lag some milliseconds behind the clock: nothing ends before it begins. */
export function notBefore<T extends ExitStatus | null>(exit: T, startedAtNs: bigint): T {
  return exit && exit.atNs < startedAtNs ? { ...exit, atNs: startedAtNs } : exit
}
