import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { canonicalJson } from '../core/canonical-json.ts'
import { CodedError } from '../core/errors.ts'
import type { ConmonExecutor, StopSignal } from '../executor/conmon-executor.ts'
import type { SeccompProfiles } from '../executor/seccomp-profiles.ts'
import type { ContainerRecord, ExitStatus, OciRuntime } from '../executor/types.ts'
import type { CgroupMode } from '../host/cgroup/cgroup-mode.ts'
import { makeDirectory, readTextIfAny } from '../host/files.ts'
import { isAlive, type ProcessIdentity } from '../host/process.ts'
import type { HostSecurityFacts } from '../host/security.ts'
import { cgroupsPath, DEFAULT_CGROUP_PARENT } from '../oci/cgroups-path.ts'
import { ociJson } from '../oci/json.ts'
import type { NamespacePaths } from '../oci/namespaces.ts'
import { clampOomScoreAdj, SANDBOX_OOM_SCORE_ADJ } from '../oci/oom-score.ts'
import { pauseSpec } from '../oci/pause-spec.ts'
import { resolveAppArmor, resolveSelinux } from '../oci/security.ts'
import type { LinuxSeccomp, Spec } from '../oci/spec.ts'
import type { ControllerStatus, SandboxNamespaces, SandboxSpec } from './controller.ts'

/** The program that a pause container runs. */
export interface PauseProgram {
  readonly rootfsPath: string
  readonly args: readonly string[]
  /** What makes it quit at once. */
  readonly stopSignal: StopSignal
}

export interface PauseOptions {
  readonly pause: () => PauseProgram
  readonly cgroupDriver: 'cgroupfs' | 'systemd'
  readonly cgroupMode: CgroupMode
  readonly seccomp: SeccompProfiles
  readonly hostSecurity: HostSecurityFacts
  /** The OCI runtime behind each runtime handler. */
  readonly runtimes: Readonly<Record<string, { readonly runtime: string; readonly runtimeRoot: string }>>
}

/** JSON: the container, and how its program is made to quit. */
export interface PauseRecord {
  readonly container: ContainerRecord
  readonly stopSignal: StopSignal
}

/** The container that holds a pod's namespaces, or the part of them that has to have a process. */
export class PauseContainers {
  readonly #options: PauseOptions
  readonly #executor: ConmonExecutor

  constructor(options: PauseOptions, deps: { readonly executor: ConmonExecutor }) {
    this.#options = options
    this.#executor = deps.executor
  }

  /**
   * @param runtime in place of that of the runtime handler.
   * @throws CodedError for what the pod asks for and this node cannot give; nothing is made.
   */
  async plan(spec: SandboxSpec, runtime: OciRuntime = this.#runtime(spec.runtimeHandler)): Promise<PauseRecord> {
    // What the specification would refuse is refused before anything is made. The paths matter only later.
    pauseSpec(this.#specInput(spec, joinedNamespaces(spec), null, '/'))
    const path = cgroupsPath({
      driver: runtime.systemdCgroup ? 'systemd' : 'cgroupfs',
      cgroupParent: spec.config.linux?.cgroup_parent ?? '',
      id: spec.id,
    })
    const container = await this.#executor.plan({
      id: spec.id,
      runtime,
      bundleDir: spec.stateDir,
      cgroupsPath: path,
      hasUserns: spec.usernsPath !== '',
    })
    return { container, stopSignal: this.#options.pause().stopSignal }
  }

  /** @throws CodedError `DataLoss` for a record that is not one of ours. */
  parse(record: unknown, stateParent: string): PauseRecord {
    const { container, stopSignal } = (record ?? {}) as Partial<PauseRecord>
    const runtime = container?.runtime
    const isOurs =
      typeof container?.id === 'string' &&
      /^[0-9a-f]{64}$/.test(container.id) &&
      container.bundleDir === join(stateParent, container.id) &&
      Array.isArray(container.ownedCgroupParents) &&
      container.cgroupsPath.endsWith(container.id) &&
      typeof runtime?.path === 'string' &&
      typeof runtime.root === 'string' &&
      typeof stopSignal === 'string'
    if (!isOurs)
      throw new CodedError('DataLoss', `container record: ${canonicalJson(record ?? null)} is not one of ours`)
    return record as PauseRecord
  }

  /** The record of a container of which only the id is known, or null when no runtime knows it. */
  derive(id: string, bundleDir: string): PauseRecord | null {
    const runtime = Object.values(this.#options.runtimes)
      .map((handler) => this.#runtimeOf(handler))
      // Where shims have it, that of each namespace has a directory.
      .flatMap((found) => [found, { ...found, root: join(found.root, 'k8s.io') }])
      .find(({ root }) => existsSync(join(root, id)))
    if (!runtime) return null
    const container = {
      id,
      runtime,
      bundleDir,
      cgroupsPath: cgroupsPathIn(bundleDir, id),
      ownedCgroupParents: [DEFAULT_CGROUP_PARENT],
    }
    return { container, stopSignal: this.#likelyStopSignal() }
  }

  adopt(record: PauseRecord): void {
    this.#executor.adopt(record.container)
  }

  /** Writes the bundle and creates the container: its namespaces are there, its program is not run yet. */
  async create(
    record: PauseRecord,
    spec: SandboxSpec,
    namespaces: NamespacePaths,
    signal: AbortSignal,
  ): Promise<ProcessIdentity> {
    await this.writeBundle(record, spec, namespaces, signal)
    return this.#executor.create(record.container, signal)
  }

  /** Writes the bundle, for whoever creates the container. */
  async writeBundle(
    { container }: PauseRecord,
    spec: SandboxSpec,
    namespaces: NamespacePaths,
    signal: AbortSignal,
  ): Promise<void> {
    // The pause has no capabilities.
    const seccomp = await this.#options.seccomp.filter(spec.config.linux?.security_context ?? null, [], signal)
    const oci = pauseSpec(this.#specInput(spec, namespaces, seccomp, container.cgroupsPath))
    await makeDirectory(container.runtime.root)
    await writeFile(join(container.bundleDir, 'config.json'), ociJson(oci), { mode: 0o600 })
  }

  async start(record: PauseRecord, signal: AbortSignal): Promise<ProcessIdentity> {
    await this.#executor.start(record.container, signal)
    const process = await this.#executor.findProcess(record.container)
    if (process) return process
    throw new CodedError('Internal', `start the pause container of ${record.container.id}: its process ended at once`)
  }

  async stop(
    record: PauseRecord,
    process: ProcessIdentity | null,
    graceMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    const target = process ?? (await this.#executor.findProcess(record.container))
    if (target) await this.#executor.stop(target, { stopSignal: record.stopSignal, graceMs }, signal)
  }

  async wait(record: PauseRecord, process: ProcessIdentity, signal: AbortSignal): Promise<ExitStatus> {
    return this.#executor.wait(record.container, process, signal)
  }

  /** The namespaces that the pause process is in. @throws CodedError `FailedPrecondition` when it has ended. */
  namespaces(process: ProcessIdentity | null): Required<SandboxNamespaces> {
    if (!process || !isAlive(process, process.bootId)) {
      throw new CodedError(
        'FailedPrecondition',
        'join the namespaces of the pod: the process that holds them has ended',
      )
    }
    const path = (type: string): string => `/proc/${process.pid}/ns/${type}`
    return { ipc: path('ipc'), uts: path('uts'), pid: path('pid') }
  }

  async status(record: PauseRecord, known: ProcessIdentity | null): Promise<ControllerStatus> {
    const exit = await this.#executor.exitStatus(record.container)
    if (exit) return { state: 'stopped', process: known, exit }
    const process = await this.#executor.findProcess(record.container)
    if (process && (!known || process.startTime === known.startTime)) return { state: 'running', process, exit: null }
    return { state: 'stopped', process: known, exit: null }
  }

  async delete(record: PauseRecord, signal: AbortSignal): Promise<void> {
    await this.#executor.delete(record.container, signal)
  }

  async info(record: PauseRecord): Promise<Readonly<Record<string, unknown>>> {
    const text = await readTextIfAny(join(record.container.bundleDir, 'config.json'))
    return { runtime: record.container.runtime, runtimeSpec: text === undefined ? null : (JSON.parse(text) as unknown) }
  }

  /** @param stateParent the directory in which each sandbox has its state directory. */
  listOwned(stateParent: string): readonly { readonly id: string; readonly pid: number }[] {
    return this.#executor.listOwned().filter(({ id, bundleDir }) => bundleDir === join(stateParent, id))
  }

  #runtime(handler: string): OciRuntime {
    const found = this.#options.runtimes[handler]
    if (!found) throw new CodedError('NotFound', `runtime handler ${handler}: not configured`)
    return this.#runtimeOf(found)
  }

  #runtimeOf(handler: { readonly runtime: string; readonly runtimeRoot: string }): OciRuntime {
    return { path: handler.runtime, root: handler.runtimeRoot, systemdCgroup: this.#options.cgroupDriver === 'systemd' }
  }

  /** Today's pause program may be an image that is not there yet; SIGKILL follows on any signal. */
  #likelyStopSignal(): StopSignal {
    try {
      return this.#options.pause().stopSignal
    } catch {
      return 'SIGTERM'
    }
  }

  #specInput(
    spec: SandboxSpec,
    namespaces: NamespacePaths,
    seccomp: LinuxSeccomp | null,
    path: string,
  ): Parameters<typeof pauseSpec>[0] {
    const { hostSecurity, cgroupMode } = this.#options
    const pause = this.#options.pause()
    const context = spec.config.linux?.security_context ?? null
    const privileged = context?.privileged ?? false
    return {
      config: spec.config,
      id: spec.id,
      hostname: spec.hostname,
      rootfsPath: pause.rootfsPath,
      args: pause.args,
      namespaces,
      cgroupsPath: path,
      cgroupMode,
      seccomp,
      apparmorProfile: resolveAppArmor(context?.apparmor ?? null, hostSecurity, { privileged, defaultProfile: '' }),
      selinux: resolveSelinux(context?.selinux_options ?? null, privileged, hostSecurity),
      oomScoreAdj: clampOomScoreAdj(SANDBOX_OOM_SCORE_ADJ, hostSecurity.oomScoreAdj, hostSecurity.hasSysResource),
      allowedCapabilities: hostSecurity.boundingCapabilities,
      runtimeHandler: spec.runtimeHandler,
      sandboxer: spec.sandboxer,
    }
  }
}

/** What the pod has before its pause container is made. */
export function joinedNamespaces({ netnsPath, usernsPath }: SandboxSpec): NamespacePaths {
  return { netPath: netnsPath === '' ? null : netnsPath, ...(usernsPath === '' ? {} : { userPath: usernsPath }) }
}

/** The cgroup that the spec of a container names; without one that can be read, where ours are by default. */
function cgroupsPathIn(bundleDir: string, id: string): string {
  try {
    const spec = JSON.parse(readFileSync(join(bundleDir, 'config.json'), 'utf8')) as Partial<Spec>
    if (spec.linux?.cgroupsPath?.endsWith(id)) return spec.linux.cgroupsPath
  } catch {
    // The default is all that is left.
  }
  return cgroupsPath({ driver: 'cgroupfs', cgroupParent: '', id })
}
