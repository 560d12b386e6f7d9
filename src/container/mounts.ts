import { posix } from 'node:path'
import { CodedError, invalidField } from '../core/errors.ts'
import type { Mount__Output } from '../generated/runtime/v1/Mount.ts'
import type { HostPath, HostPathRequest } from '../host/host-paths.ts'
import { idMappings } from '../oci/user-namespace.ts'
import type { Mount } from '../oci/spec.ts'
import { requirePropagation } from './propagation.ts'
import type { ContainerConfig } from './types.ts'

/** What the OCI runtime of a container can do; asked for otherwise, it would mount without a word. */
export interface MountFeatures {
  readonly recursiveReadOnly: boolean
  readonly idmap: boolean
}

export interface MountOptions {
  readonly features: MountFeatures
  /** Of the container; `''` without SELinux, where nothing is relabelled. */
  readonly mountLabel: string
  /** Where the images to be mounted are: absolute paths by `mounts[].image.image`. They do not change meanwhile. */
  readonly imagePaths: ReadonlyMap<string, string>
}

export interface MountDeps {
  /** Looks at paths of the caller's, which may hang: with a deadline. One answer for each request. */
  readonly hostPaths: (requests: readonly HostPathRequest[]) => Promise<readonly HostPath[]>
  /** /proc/self/mountinfo (proc(5)). */
  readonly mountInfo: () => Promise<string>
  readonly resolveInRoot: (request: { readonly root: string; readonly path: string }) => Promise<string>
}

export interface MountPlan {
  /** One for each path in the container, for `containerSpec`. */
  readonly mounts: readonly Mount[]
  /** Paths of the node to give the container's mount label before it is created. */
  readonly relabel: readonly string[]
}

const PATH_PATTERN = /^\/[^\p{Cc}]{0,4095}$/u
const PLAIN_OPTIONS = ['nosuid', 'nodev', 'noexec', 'noatime', 'nodiratime', 'relatime', 'strictatime', 'nosymfollow']
/** Relabelling one of these, or what lies in the latter, would take the node itself apart (CVE-2021-43816). */
const SYSTEM_TOPS = /^\/(?:home|root|run|tmp|var|var\/lib|var\/run|opt|srv|mnt|media)?$/
const SYSTEM_TREES = /^\/(?:bin|boot|dev|etc|lib|lib32|lib64|proc|sbin|sys|usr)(?:\/|$)/

/**
 * The mounts that a container asks for, with links on the node resolved and missing host paths made as directories.
 * Of several on one path the last counts. Nothing is made before all of them are known to be well formed.
 *
 * @throws CodedError `InvalidArgument` naming the mount, `FailedPrecondition` for what the node or its runtime cannot do.
 */
export async function planMounts(config: ContainerConfig, options: MountOptions, deps: MountDeps): Promise<MountPlan> {
  const wanted = [...new Map(config.mounts.map((mount, at) => checked(mount, at, options.features))).values()]
  const hostMounts = wanted.filter(({ mount }) => mount.image === null)
  const requests = hostMounts.map(({ mount }) => ({ path: mount.host_path, create: true }))
  const answers = requests.length === 0 ? [] : await deps.hostPaths(requests)
  const sources = new Map(hostMounts.map(({ field, mount }, at) => [mount, hostSource(field, mount, answers[at])]))
  await requirePropagation(
    hostMounts.map(({ field, mount }) => ({
      field,
      path: sources.get(mount) ?? '',
      propagation: mount.propagation,
    })),
    deps.mountInfo,
  )
  const mounts: Mount[] = []
  for (const { field, mount, bind } of wanted) {
    const source = sources.get(mount) ?? (await imageSource(field, mount, options, deps))
    mounts.push({ ...bind, source })
  }
  const relabel = hostMounts.flatMap(({ field, mount }) => relabelled(field, mount, sources.get(mount) ?? '', options))
  return { mounts, relabel }
}

interface WantedMount {
  readonly field: string
  readonly mount: Mount__Output
  readonly bind: Omit<Mount, 'source'>
}

function checked(mount: Mount__Output, at: number, features: MountFeatures): readonly [string, WantedMount] {
  const field = `config.mounts[${at}]`
  const destination = posix.resolve('/', mount.container_path)
  if (!PATH_PATTERN.test(mount.container_path) || destination === '/') {
    throw invalidField(`${field}.container_path`, `must be an absolute path below /: ${shown(mount.container_path)}`)
  }
  if (mount.image === null && !PATH_PATTERN.test(mount.host_path)) {
    throw invalidField(`${field}.host_path`, `must be an absolute path: ${shown(mount.host_path)}`)
  }
  if (mount.image !== null && mount.host_path !== '') throw invalidField(`${field}.host_path`, 'is given besides image')
  checkSubPath(field, mount)
  const unknown = mount.mount_options.find((option) => !PLAIN_OPTIONS.includes(option))
  if (unknown !== undefined) {
    throw invalidField(`${field}.mount_options`, `${shown(unknown)} is none of ${PLAIN_OPTIONS.join(', ')}`)
  }
  checkRecursiveReadOnly(field, mount, features)
  if (mount.uidMappings.length + mount.gidMappings.length > 0 && !features.idmap) {
    throw new CodedError('FailedPrecondition', `${field}.uidMappings: the runtime handler has no id-mapped mounts`)
  }
  return [destination, { field, mount, bind: bindMount(field, destination, mount) }]
}

function checkSubPath(field: string, { image, image_sub_path: path }: Mount__Output): void {
  if (path === '') return
  if (image === null) throw invalidField(`${field}.image_sub_path`, 'needs image')
  const isWithin = PATH_PATTERN.test(`/${path}`) && !path.startsWith('/') && !path.split('/').includes('..')
  if (!isWithin) throw invalidField(`${field}.image_sub_path`, `must be a path within the image: ${shown(path)}`)
}

function checkRecursiveReadOnly(field: string, mount: Mount__Output, features: MountFeatures): void {
  if (!mount.recursive_read_only) return
  const key = `${field}.recursive_read_only`
  if (!mount.readonly) throw invalidField(key, 'needs readonly')
  if (mount.propagation !== 'PROPAGATION_PRIVATE') throw invalidField(key, 'needs private propagation')
  if (features.recursiveReadOnly) return
  throw new CodedError('FailedPrecondition', `${key}: the runtime handler has no recursive read-only mounts`)
}

function hostSource(field: string, mount: Mount__Output, found: HostPath | undefined): string {
  if (found !== undefined && found.kind !== 'missing') return found.path
  throw new CodedError('FailedPrecondition', `${field}.host_path: ${mount.host_path} is not there`)
}

async function imageSource(
  field: string,
  mount: Mount__Output,
  options: MountOptions,
  deps: MountDeps,
): Promise<string> {
  const image = mount.image?.image ?? ''
  const root = options.imagePaths.get(image)
  if (root === undefined) throw new CodedError('Internal', `${field}.image: ${shown(image)} is not mounted`)
  const path = mount.image_sub_path
  return path === '' ? root : deps.resolveInRoot({ root, path: `/${path}` })
}

function bindMount(field: string, destination: string, mount: Mount__Output): Omit<Mount, 'source'> {
  const isImage = mount.image !== null
  const readonly = mount.recursive_read_only ? 'rro' : mount.readonly || isImage ? 'ro' : 'rw'
  const plain = isImage ? [...new Set(['nosuid', 'nodev', 'noexec', ...mount.mount_options])] : mount.mount_options
  const base: Omit<Mount, 'source'> = {
    destination,
    type: 'bind',
    options: ['rbind', propagationOption(field, mount), readonly, ...plain],
  }
  if (mount.uidMappings.length + mount.gidMappings.length === 0) return base
  return {
    ...base,
    uidMappings: idMappings(`${field}.uidMappings`, mount.uidMappings),
    gidMappings: idMappings(`${field}.gidMappings`, mount.gidMappings),
  }
}

function propagationOption(field: string, { propagation }: Mount__Output): string {
  switch (propagation) {
    case 'PROPAGATION_PRIVATE':
      return 'rprivate'
    case 'PROPAGATION_HOST_TO_CONTAINER':
      return 'rslave'
    case 'PROPAGATION_BIDIRECTIONAL':
      return 'rshared'
    default:
      throw invalidField(`${field}.propagation`, `not known: ${String(propagation)}`)
  }
}

function relabelled(field: string, mount: Mount__Output, path: string, { mountLabel }: MountOptions): string[] {
  if (!mount.selinux_relabel || mountLabel === '') return []
  if (!SYSTEM_TOPS.test(path) && !SYSTEM_TREES.test(path)) return [path]
  throw invalidField(`${field}.selinux_relabel`, `${path} belongs to the node and keeps its labels`)
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 256))
}
