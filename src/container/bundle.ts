import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { CdiDevices } from '../cdi/cdi-devices.ts'
import type { SeccompProfiles } from '../executor/seccomp-profiles.ts'
import type { RuntimeFeatures } from '../executor/types.ts'
import type { CgroupMode } from '../host/cgroup/cgroup-mode.ts'
import type { HostPath, HostPathRequest } from '../host/host-paths.ts'
import type { Kernel } from '../host/kernel/kernel.ts'
import type { HostSecurityFacts } from '../host/security.ts'
import type { ImageView } from '../image/types.ts'
import { cgroupsPath } from '../oci/cgroups-path.ts'
import { containerCapabilities } from '../oci/container-capabilities.ts'
import type { ContainerNamespacePaths, NodeLimits } from '../oci/container-input.ts'
import { containerOomScoreAdj } from '../oci/container-process.ts'
import { containerResources, mergeContainerResources } from '../oci/container-resources.ts'
import { containerAppArmor } from '../oci/container-security.ts'
import { containerSpec } from '../oci/container-spec.ts'
import { resolveUser } from '../oci/container-user.ts'
import { ociJson } from '../oci/json.ts'
import { NEW_NAMESPACE } from '../oci/namespaces.ts'
import { resolveSelinux, type SelinuxLabels } from '../oci/security.ts'
import type { Mount, Resources, User } from '../oci/spec.ts'
import type { CreatePlan } from './create.ts'
import { planDevices } from './devices.ts'
import { planMounts } from './mounts.ts'
import type { ContainerPaths } from './paths.ts'
import type { Pod, Pods } from './pods.ts'
import type { ContainerResourcePlan } from './resources.ts'
import type { ContainerConfig, ContainerResources } from './types.ts'
import { ImageUserFiles } from './user-files.ts'

export interface BundleOptions {
  readonly cgroupDriver: 'cgroupfs' | 'systemd'
  readonly cgroupMode: CgroupMode
  readonly limits: NodeLimits
  readonly hostSecurity: HostSecurityFacts
}

export interface BundleDeps {
  readonly kernel: Pick<Kernel, 'readInRoot' | 'resolveInRoot' | 'makeDirectoryInRoot'>
  /** Looks at paths that the caller chose, which may hang. */
  readonly hostPaths: (requests: readonly HostPathRequest[]) => Promise<readonly HostPath[]>
  readonly cdi: CdiDevices
  readonly pods: Pods
  /** The pid of a running container of the same pod. @throws CodedError `FailedPrecondition`. */
  readonly pidOf: (containerId: string, sandboxId: string, signal: AbortSignal) => Promise<number>
  readonly seccomp: SeccompProfiles
  /** Gives files of the node to containers with this label. */
  readonly relabel: (paths: readonly string[], label: string, signal: AbortSignal) => Promise<void>
  readonly features: (runtimePath: string, signal: AbortSignal) => Promise<RuntimeFeatures>
}

/** What may be asked of a runtime that is not ours to see. */
const UNKNOWN_RUNTIME = { recursiveReadOnlyMounts: false, idMappedMounts: false }

/** Makes the bundles of containers: everything that the request, the image, the pod and the node say, in one config.json. */
export class Bundles {
  readonly #options: BundleOptions
  readonly #deps: BundleDeps
  readonly #userFiles: ImageUserFiles

  constructor(options: BundleOptions, deps: BundleDeps) {
    this.#options = options
    this.#deps = deps
    this.#userFiles = new ImageUserFiles(deps)
  }

  cgroupsPath(id: string, pod: Pod): string {
    const cgroupParent = pod.config.linux?.cgroup_parent ?? ''
    return cgroupsPath({ driver: this.#options.cgroupDriver, cgroupParent, id })
  }

  /**
   * Writes config.json. Returns the user of the container's process.
   * @param mounted resolves when the container's root file system and its images are mounted.
   * @throws CodedError naming the field that cannot be met.
   */
  async write(
    { metadata, pod, image, checkpointed }: CreatePlan,
    resources: ContainerResourcePlan,
    paths: ContainerPaths,
    mounted: Promise<void>,
    signal: AbortSignal,
  ): Promise<User> {
    const { config } = metadata
    const context = config.linux?.security_context ?? null
    const { hostSecurity } = this.#options
    const privileged = context?.privileged ?? false
    const podContext = pod.config.linux?.security_context ?? null
    const labels = context?.selinux_options ?? podContext?.selinux_options ?? null
    const selinux = resolveSelinux(labels, privileged, hostSecurity)
    const capabilities = containerCapabilities(context, hostSecurity.boundingCapabilities)
    const [user, mounts, devices, cdi, seccomp, namespaces] = await Promise.all([
      this.#user(config, image, async () => mounted.then(() => paths.rootfs)),
      this.#mounts(config, pod, resources, selinux, mounted, signal),
      planDevices(config, { hostPaths: this.#deps.hostPaths, listDirectory: (path) => readdir(path) }),
      this.#deps.cdi.resolve(config),
      this.#deps.seccomp.filter(context, capabilities.bounding, signal),
      this.#namespaces(config, pod, signal),
      this.#makeVolumes(image.config.volumes, paths.rootfs, pod, mounted),
    ])
    const spec = containerSpec({
      id: metadata.id,
      sandboxId: pod.id,
      config,
      podConfig: pod.config,
      image: { name: config.image?.user_specified_image || config.image?.image || image.id, ...image.config },
      rootfsPath: paths.rootfs,
      hostname: pod.hostname,
      user,
      mounts,
      devices,
      namespaces,
      podFiles: pod.files,
      cgroupsPath: resources.executed.cgroupsPath,
      cgroupMode: this.#options.cgroupMode,
      limits: this.#options.limits,
      seccomp,
      apparmorProfile: containerAppArmor(context, hostSecurity, ''),
      selinux,
      oomScoreAdj: containerOomScoreAdj(config, hostSecurity),
      allowedCapabilities: hostSecurity.boundingCapabilities,
      cdi,
      runtimeHandler: pod.runtimeHandler,
    })
    const annotations = checkpointed
      ? { ...spec.annotations, ...(await writeCriuConfig(paths.stateDir)) }
      : spec.annotations
    await writeFile(join(paths.stateDir, 'config.json'), ociJson({ ...spec, annotations }), { mode: 0o600 })
    return user
  }

  /** The resources in force after a change, and what the runtime is told of them. */
  update(
    current: ContainerResources | null,
    change: ContainerResources,
  ): { merged: ContainerResources; oci: Resources } {
    const merged = mergeContainerResources(current, change)
    const { cgroupMode, limits } = this.#options
    return { merged, oci: containerResources(merged, { field: 'linux', cgroupMode, limits }) }
  }

  async #user(config: ContainerConfig, image: ImageView, mounted: () => Promise<string>): Promise<User> {
    const securityContext = config.linux?.security_context ?? null
    const files = await this.#userFiles.of(image.id, mounted)
    return resolveUser({ securityContext, imageUser: image.config.user }, files)
  }

  async #mounts(
    config: ContainerConfig,
    pod: Pod,
    { imageMounts }: ContainerResourcePlan,
    selinux: SelinuxLabels,
    mounted: Promise<void>,
    signal: AbortSignal,
  ): Promise<readonly Mount[]> {
    const { kernel, hostPaths, relabel } = this.#deps
    const features = pod.runtime.path === '' ? UNKNOWN_RUNTIME : await this.#deps.features(pod.runtime.path, signal)
    if (imageMounts.length > 0) await mounted
    const plan = await planMounts(
      config,
      {
        features: { recursiveReadOnly: features.recursiveReadOnlyMounts, idmap: features.idMappedMounts },
        mountLabel: selinux.mountLabel,
        imagePaths: new Map(imageMounts.map(({ image, path }) => [image, path])),
      },
      {
        hostPaths,
        mountInfo: () => readFile('/proc/self/mountinfo', 'utf8'),
        resolveInRoot: (request) => kernel.resolveInRoot(request),
      },
    )
    if (plan.relabel.length > 0) await relabel(plan.relabel, selinux.mountLabel, signal)
    return plan.mounts
  }

  /** An image's volumes are directories of the container. */
  async #makeVolumes(volumes: readonly string[], root: string, pod: Pod, mounted: Promise<void>): Promise<void> {
    if (volumes.length > 0) await mounted
    const owner = pod.userns ? { owner: pod.userns.root } : {}
    for (const path of volumes) await this.#deps.kernel.makeDirectoryInRoot({ root, path, ...owner })
  }

  async #namespaces(config: ContainerConfig, pod: Pod, signal: AbortSignal): Promise<ContainerNamespacePaths> {
    const options = config.linux?.security_context?.namespace_options ?? null
    const { net, ipc, uts, pid } = this.#deps.pods.namespaces(pod.id)
    return {
      net: net ?? null,
      ipc: ipc ?? null,
      uts: uts ?? null,
      user: pod.userns?.path ?? null,
      ...(pod.tasks ? { elsewhere: true } : {}),
      pid: await this.#pid(options, pod, pid, signal),
    }
  }

  async #pid(
    options: { readonly pid: string; readonly target_id: string } | null,
    pod: Pod,
    ofPod: string | undefined,
    signal: AbortSignal,
  ): Promise<string | null> {
    const podMode = pod.config.linux?.security_context?.namespace_options?.pid ?? 'POD'
    switch (options?.pid ?? 'POD') {
      case 'CONTAINER':
        return NEW_NAMESPACE
      case 'NODE':
        return null
      case 'TARGET':
        return `/proc/${await this.#deps.pidOf(options?.target_id ?? '', pod.id, signal)}/ns/pid`
      default:
        // The container's default in a pod that shares none.
        if (podMode === 'NODE') return null
        return podMode === 'POD' && ofPod !== undefined ? ofPod : NEW_NAMESPACE
    }
  }
}

/** A restored container is in the cgroup that the runtime makes for it; criu would make that of the checkpointed one. */
async function writeCriuConfig(directory: string): Promise<Readonly<Record<string, string>>> {
  const path = join(directory, 'criu.conf')
  await writeFile(path, 'manage-cgroups=ignore\n', { mode: 0o600 })
  return { 'org.criu.config': path }
}
