import { open } from 'node:fs/promises'
import { openCheckpoint, sealCheckpoint } from '../../checkpoint/checkpoint.ts'
import { canonicalJson } from '../../core/canonical-json.ts'
import { CodedError, errorMessage, invalidField } from '../../core/errors.ts'
import type { Sealer } from '../../core/seal.ts'
import type { PodSandboxConfig__Output } from '../../generated/runtime/v1/PodSandboxConfig.ts'
import { type PlainConfig, plainConfig } from '../status.ts'
import { readTar, type TarLimits, type TarMember } from './tar-reader.ts'
import type { ContainerConfig, ContainerMetadata } from '../types.ts'

/** The first member of the archive of a pod. */
export const MANIFEST = 'manifest.json'
const VERSION = 1
const SUBJECT = 'pod checkpoint'
const MAX_MANIFEST_BYTES = 16 * 1024 * 1024
/** What criu and runtimes call their files. */
const MEMBER = /^containers\/\d{1,4}\/(checkpoint\/[A-Za-z0-9][A-Za-z0-9._-]{0,200}|rootfs-diff\.tar)$/
const DIRECTORY = /^containers(\/\d{1,4}(\/checkpoint)?)?$/

export interface ManifestFile {
  readonly path: string
  readonly sizeBytes: number
  readonly sha256: string
}

/** A container as it was when it was checkpointed; its files are in `containers/<place in the list>/`. */
export interface CheckpointedContainer {
  readonly name: string
  readonly id: string
  readonly imageId: string
  readonly config: PlainConfig
}

/** What the archive of a pod says of itself. Nothing is done by it but comparing. */
export interface PodManifest {
  readonly version: number
  readonly runtimePath: string
  readonly sandboxId: string
  /** For people, but for its namespaces. */
  readonly sandboxConfig: unknown
  readonly namespaces: unknown
  readonly containers: readonly CheckpointedContainer[]
  readonly files: readonly ManifestFile[]
}

export function describeContainer(metadata: ContainerMetadata): CheckpointedContainer {
  const { id, imageId, config } = metadata
  return { name: nameOf(config), id, imageId, config: plainConfig(config) }
}

/** The text of a manifest, sealed with the key of this node. */
export function encodeManifest(manifest: Omit<PodManifest, 'version' | 'namespaces'>, sealer: Sealer): string {
  const { sandboxConfig } = manifest
  const namespaces = namespacesOf(sandboxConfig as PodSandboxConfig__Output)
  return sealCheckpoint(sealer, SUBJECT, { ...manifest, version: VERSION, namespaces }).text
}

/**
 * Reads the manifest of an archive, and makes sure that the archive has the members that it names and no others: plain
 * files with names as criu has them, and the directories that they are in.
 *
 * @throws CodedError `FailedPrecondition` for one that this node has not written; otherwise as `readTar`.
 */
export async function readManifest(archive: string, sealer: Sealer, limits: TarLimits): Promise<PodManifest> {
  let manifest: PodManifest | undefined
  const missing = new Map<string, number>()
  const seen = new Set<string>()
  for await (const member of readTar(archive, limits)) {
    const { path } = member
    if (seen.has(path)) throw refused(member, 'is there twice')
    seen.add(path)
    if (!manifest) {
      manifest = await parseManifest(archive, member, sealer)
      for (const file of manifest.files) missing.set(file.path, file.sizeBytes)
      continue
    }
    if (member.type === 'directory' && DIRECTORY.test(path)) continue
    if (member.type !== 'file' || !MEMBER.test(path))
      throw refused(member, `is a ${member.type} that does not belong there`)
    if (missing.get(path) !== member.sizeBytes) throw refused(member, 'is not as the manifest says')
    missing.delete(path)
  }
  const [path] = missing.keys()
  if (path !== undefined) throw new CodedError('DataLoss', `read checkpoint: ${path} is missing`)
  if (!manifest) throw new CodedError('DataLoss', 'read checkpoint: it is empty')
  return manifest
}

async function parseManifest(archive: string, member: TarMember, sealer: Sealer): Promise<PodManifest> {
  if (member.path !== MANIFEST || member.type !== 'file') throw refused(member, 'comes before the manifest')
  if (member.sizeBytes > MAX_MANIFEST_BYTES) throw refused(member, 'is too large')
  await using file = await open(archive, 'r')
  const { buffer } = await file.read(Buffer.alloc(member.sizeBytes), 0, member.sizeBytes, member.offset)
  try {
    const manifest = openCheckpoint(sealer, SUBJECT, buffer.toString()).data as PodManifest
    if (manifest.version !== VERSION) throw new CodedError('DataLoss', `version ${manifest.version} is not known`)
    return manifest
  } catch (error) {
    const why = `it is none that this node has written, or was changed: ${errorMessage(error)}`
    throw new CodedError('FailedPrecondition', `checkpoint_path: ${why}`, { cause: error })
  }
}

/** Parts of a configuration that are in the checkpointed process, or that criu takes from its images. */
const SAME: readonly (keyof ContainerConfig)[] = [
  'command',
  'args',
  'working_dir',
  'envs',
  'stdin',
  'stdin_once',
  'tty',
  'devices',
  'CDI_devices',
]

/**
 * Holds the configurations that a pod shall be restored with against those of its checkpoint. Policy is taken from the
 * request alone; what the processes have of it in their state has to be the same.
 *
 * @param live the configurations, each with the id of its image.
 * @returns for each of `live` the place of its container in the manifest.
 * @throws CodedError `InvalidArgument` naming the field, `FailedPrecondition` for another runtime.
 */
export function matchContainers(
  manifest: PodManifest,
  request: { readonly config: PodSandboxConfig__Output; readonly runtimePath: string },
  live: readonly { readonly config: ContainerConfig; readonly imageId: string }[],
): number[] {
  if (manifest.runtimePath !== request.runtimePath) {
    const why = `was made with ${manifest.runtimePath}, not with ${request.runtimePath}`
    throw new CodedError('FailedPrecondition', `runtime_handler: the checkpoint ${why}`)
  }
  const namespaces = 'config.linux.security_context.namespace_options'
  checkSame(namespaces, manifest.namespaces, namespacesOf(request.config))
  const names = live.map(({ config }) => nameOf(config))
  for (const { name } of manifest.containers) {
    if (!names.includes(name)) throw invalidField('container_configs', `there is none for the container ${name}`)
  }
  return live.map(({ config, imageId }, at) => {
    const field = `container_configs[${at}]`
    const name = nameOf(config)
    if (names.indexOf(name) !== at) throw invalidField(`${field}.metadata.name`, `${name} is there twice`)
    const place = manifest.containers.findIndex((container) => container.name === name)
    const container = manifest.containers[place]
    if (!container) throw invalidField(`${field}.metadata.name`, `the checkpoint has no container ${name}`)
    if (container.imageId !== imageId) {
      throw invalidField(`${field}.image`, `is ${imageId}, the checkpointed container has ${container.imageId}`)
    }
    checkConfig(field, container.config, plainConfig(config))
    return place
  })
}

function checkConfig(field: string, checkpointed: PlainConfig, live: PlainConfig): void {
  for (const key of SAME) checkSame(`${field}.${key}`, checkpointed[key], live[key])
  checkSame(`${field}.mounts`, mountPoints(checkpointed), mountPoints(live))
  checkSame(`${field}.linux.security_context`, securityOf(checkpointed), securityOf(live))
}

/** What of the node is mounted is the request's to say; where, and how, is in the state of the process. */
function mountPoints({ mounts }: PlainConfig): unknown {
  return (mounts as ContainerConfig['mounts']).map((mount) => ({ ...mount, host_path: '' }))
}

function securityOf({ linux }: PlainConfig): unknown {
  return (linux as ContainerConfig['linux'])?.security_context ?? null
}

function namespacesOf(config: PodSandboxConfig__Output): unknown {
  return config.linux?.security_context?.namespace_options ?? null
}

function checkSame(field: string, checkpointed: unknown, live: unknown): void {
  if (canonicalJson(checkpointed ?? null) === canonicalJson(live ?? null)) return
  throw invalidField(field, 'is not what it was when the container was checkpointed')
}

function nameOf({ metadata }: ContainerConfig): string {
  return metadata?.name ?? ''
}

function refused({ path }: TarMember, why: string): CodedError {
  return new CodedError('DataLoss', `read checkpoint: ${JSON.stringify(path.slice(0, 200))} ${why}`)
}
