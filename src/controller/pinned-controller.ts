import { dirname, join } from 'node:path'
import { canonicalJson } from '../core/canonical-json.ts'
import { abortReason } from '../core/deadline.ts'
import { CodedError } from '../core/errors.ts'
import type { ExitStatus } from '../executor/types.ts'
import type { Kernel, Namespaces } from '../host/kernel/kernel.ts'
import { isPinnedNamespace } from '../host/kernel/namespace-file.ts'
import type { ProcessIdentity } from '../host/process.ts'
import { type PodNamespaces, podNamespaces } from '../oci/namespaces.ts'
import { ownedSysctls } from '../oci/sysctls.ts'
import type { Controller, ControllerStatus, SandboxNamespaces, SandboxSpec } from './controller.ts'
import { joinedNamespaces, type PauseContainers, type PauseRecord } from './pause-container.ts'

export interface PinnedRecord extends Readonly<Record<string, unknown>> {
  /** Where the pod's IPC namespace is pinned, or `''` when it uses the node's. */
  readonly ipcPath: string
  /** Where the pod's UTS namespace is pinned, or `''` when it uses the node's. */
  readonly utsPath: string
  /** The container that holds a shared PID namespace, or null when the pod shares none. */
  readonly pause: PauseRecord | null
}

/**
 * Runs sandboxes without an infra process: their namespaces are pinned by bind mounts. Only a PID namespace cannot be
 * without a process, so that a pod which shares one among its containers gets a pause container for it.
 */
export class PinnedController implements Controller<PinnedRecord> {
  readonly name = 'pinned'
  readonly networkFirst = false
  readonly remote = false
  readonly #kernel: Kernel
  readonly #pauses: PauseContainers
  readonly #stateParent: string

  /** @param options.stateParent the directory in which each sandbox has its state directory. */
  constructor(
    options: { readonly stateParent: string },
    deps: { readonly kernel: Kernel; readonly pauses: PauseContainers },
  ) {
    this.#stateParent = options.stateParent
    this.#kernel = deps.kernel
    this.#pauses = deps.pauses
  }

  async plan(spec: SandboxSpec): Promise<PinnedRecord> {
    const own = namespacesOf(spec)
    ownedSysctls(spec.config.linux?.sysctls ?? {}, own)
    const sharesPid = (spec.config.linux?.security_context?.namespace_options?.pid ?? 'POD') === 'POD'
    return {
      ipcPath: own.ownsIpc ? join(spec.stateDir, 'ipc') : '',
      utsPath: own.ownsNetwork ? join(spec.stateDir, 'uts') : '',
      pause: sharesPid ? await this.#pauses.plan(spec) : null,
    }
  }

  parse(record: unknown): PinnedRecord {
    const { ipcPath, utsPath, pause } = (record ?? {}) as Partial<PinnedRecord>
    const isPin = (path: unknown, name: string): path is string =>
      path === '' || (typeof path === 'string' && new RegExp(`^/[0-9a-f]{64}/${name}$`).test(this.#below(path)))
    if (!isPin(ipcPath, 'ipc') || !isPin(utsPath, 'uts')) {
      throw new CodedError('DataLoss', `pinned record: ${canonicalJson(record ?? null)} is not one of ours`)
    }
    return { ipcPath, utsPath, pause: pause ? this.#pauses.parse(pause, this.#stateParent) : null }
  }

  adopt(record: PinnedRecord): void {
    if (record.pause) this.#pauses.adopt(record.pause)
  }

  async create(record: PinnedRecord, spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    await this.#pin(record, spec)
    if (!record.pause) return
    const namespaces = {
      ...joinedNamespaces(spec),
      ...(record.ipcPath === '' ? {} : { ipcPath: record.ipcPath }),
      ...(record.utsPath === '' ? {} : { utsPath: record.utsPath }),
    }
    await this.#pauses.create(record.pause, spec, namespaces, signal)
  }

  async start(record: PinnedRecord, signal: AbortSignal): Promise<ProcessIdentity | null> {
    return record.pause ? this.#pauses.start(record.pause, signal) : null
  }

  async stop(
    record: PinnedRecord,
    process: ProcessIdentity | null,
    graceMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    if (record.pause) await this.#pauses.stop(record.pause, process, graceMs, signal)
  }

  async wait(record: PinnedRecord, process: ProcessIdentity | null, signal: AbortSignal): Promise<ExitStatus> {
    if (record.pause && process) return this.#pauses.wait(record.pause, process, signal)
    // Pinned namespaces do not end by themselves.
    return new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(abortReason(signal)), { once: true })
    })
  }

  namespaces(record: PinnedRecord, process: ProcessIdentity | null): SandboxNamespaces {
    return {
      ...(record.ipcPath === '' ? {} : { ipc: record.ipcPath }),
      ...(record.utsPath === '' ? {} : { uts: record.utsPath }),
      ...(record.pause ? { pid: this.#pauses.namespaces(process).pid } : {}),
    }
  }

  async status(record: PinnedRecord, process: ProcessIdentity | null): Promise<ControllerStatus> {
    const pins = [record.ipcPath, record.utsPath].filter((path) => path !== '')
    const pinned = await Promise.all(pins.map(isPinnedNamespace))
    if (pinned.includes(false)) return { state: 'stopped', process: null, exit: null }
    return record.pause ? this.#pauses.status(record.pause, process) : { state: 'running', process: null, exit: null }
  }

  async shutdown(record: PinnedRecord, signal: AbortSignal): Promise<void> {
    if (record.pause) await this.#pauses.delete(record.pause, signal)
    for (const path of [record.ipcPath, record.utsPath]) {
      if (path !== '') await this.#kernel.unpin(path)
    }
  }

  async info(record: PinnedRecord): Promise<Readonly<Record<string, unknown>>> {
    const pins = { ipc: record.ipcPath, uts: record.utsPath }
    return record.pause ? { pins, ...(await this.#pauses.info(record.pause)) } : { pins, runtimeSpec: null }
  }

  async listOwned(): Promise<readonly { readonly ownerId: string; readonly subject: string }[]> {
    // Its pins lie in the state directories of sandboxes, and its pause containers are those of the shim controller.
    return []
  }

  async #pin(record: PinnedRecord, spec: SandboxSpec): Promise<void> {
    const create: Namespaces = {
      ...(record.ipcPath === '' ? {} : { ipc: record.ipcPath }),
      ...(record.utsPath === '' ? {} : { uts: record.utsPath }),
    }
    const sysctls = ownedSysctls(spec.config.linux?.sysctls ?? {}, namespacesOf(spec))
    const enter: Namespaces = spec.netnsPath === '' ? {} : { net: spec.netnsPath }
    if (Object.keys(create).length === 0) {
      if (Object.keys(sysctls).length > 0) await this.#kernel.applySysctls(enter, sysctls)
      return
    }
    await this.#kernel.pin({
      create,
      enter,
      ...(spec.usernsPath === '' ? {} : { userns: spec.usernsPath }),
      ...(record.utsPath === '' ? {} : { hostname: spec.hostname }),
      sysctls,
    })
  }

  #below(path: string): string {
    return dirname(dirname(path)) === this.#stateParent ? path.slice(this.#stateParent.length) : ''
  }
}

function namespacesOf(spec: SandboxSpec): PodNamespaces {
  return podNamespaces(spec.config.linux?.security_context?.namespace_options ?? null)
}
