import { chown, writeFile } from 'node:fs/promises'
import { hostname as nodeHostname } from 'node:os'
import { type Checkpoint, openCheckpoint, sealCheckpoint, writeCheckpoint } from '../checkpoint/checkpoint.ts'
import type { CniNetworks } from '../cni/cni-networks.ts'
import type { Controller, ControllerRecord, SandboxSpec } from '../controller/controller.ts'
import { sandboxIps } from '../cni/result.ts'
import { CodedError } from '../core/errors.ts'
import type { Failpoints } from '../core/failpoints.ts'
import { Group } from '../core/group.ts'
import type { DurableDeps } from '../lifecycle/durable.ts'
import type { Sealer } from '../core/seal.ts'
import { readTextIfAny } from '../host/files.ts'
import type { Owner } from '../host/kernel/kernel.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { NetnsPins } from '../netns/netns.ts'
import { mappedRoot, type UserMappings, userMappings } from '../oci/user-namespace.ts'
import type { LedgerEntry } from '../store/ledger.ts'
import type { CniRecord } from './kinds/cni.ts'
import type { ControlledRecord } from './kinds/controlled.ts'
import type { Directories } from '../lifecycle/directories.ts'
import type { ShmMounts } from './kinds/shm.ts'
import type { UsernsPins } from './kinds/userns.ts'
import { type SandboxPaths, type SandboxRoots, sandboxPaths } from './paths.ts'
import { hostnameFor, hostsFile, resolvConf } from './pod-files.ts'
import { planResources, type Resources, sandboxIntents } from './resources.ts'
import { Sandbox } from './sandbox.ts'
import { type CheckpointData, type NetworkSetting, networkSubject } from './status.ts'
import type { Steps } from '../lifecycle/steps.ts'
import type { SandboxMetadata } from './types.ts'

export interface RunOptions {
  readonly roots: SandboxRoots
  readonly bootId: string
}

export interface RunDeps {
  readonly sandboxDeps: DurableDeps
  readonly sealer: Sealer
  readonly networks: CniNetworks
  readonly netns: NetnsPins
  readonly directories: Directories
  readonly shm: ShmMounts
  readonly userns: UsernsPins
  readonly failpoints: Failpoints
  /** Makes sure that there is something to run as pause; called for sandboxers that need it. */
  readonly ensurePauseImage: (signal: AbortSignal) => Promise<void>
}

const FORGET_MS = 10_000

/** What RunPodSandbox has decided before anything is made. */
export interface RunPlan {
  readonly metadata: SandboxMetadata
  readonly controller: Controller
  /** The runtime handler with the default filled in. */
  readonly runtimeHandler: string
}

/** Who has to know of a sandbox before its run has ended. */
export interface RunObserver {
  /** It is on record, and may own something from here on. */
  recorded(sandbox: Sandbox): void
  /** It runs: whoever watches for its end does so from here on. */
  started(sandbox: Sandbox, process: ProcessIdentity | null): void
}

/**
 * The steps of RunPodSandbox, in iSulad's words. Nothing is made before `recordIntent`; what is made afterwards is in
 * the ledger, so that whoever calls this can take it back when a step fails, and the next daemon can when this one dies.
 *
 * The network is set up while the pause process is created and started: neither needs the other, only the namespace.
 */
export class RunSequence {
  readonly #options: RunOptions
  readonly #deps: RunDeps
  readonly #plan: RunPlan
  readonly #steps: Steps
  readonly #observer: RunObserver
  readonly #paths: SandboxPaths
  /** Of the pod's user namespace; null in the node's. */
  readonly #mappings: UserMappings | null
  /** Whom the pod's files belong to. */
  readonly #owner: Owner | null
  readonly #spec: SandboxSpec
  #sandbox: Sandbox | undefined
  #planned: ControllerRecord | undefined

  constructor(plan: RunPlan, steps: Steps, observer: RunObserver, options: RunOptions, deps: RunDeps) {
    this.#plan = plan
    this.#steps = steps
    this.#observer = observer
    this.#options = options
    this.#deps = deps
    const { metadata } = plan
    this.#paths = sandboxPaths(options.roots, metadata.id)
    this.#mappings = userMappings(metadata.config.linux?.security_context?.namespace_options ?? null)
    this.#owner = this.#mappings && mappedRoot(this.#mappings)
    this.#spec = {
      id: metadata.id,
      config: metadata.config,
      hostname: hostnameFor({
        hostname: metadata.config.hostname,
        netMode: metadata.netMode,
        id: metadata.id,
        nodeHostname: nodeHostname(),
      }),
      runtimeHandler: plan.runtimeHandler,
      sandboxer: metadata.sandboxer,
      netnsPath: metadata.netnsPath,
      usernsPath: this.#mappings ? this.#paths.userns : '',
      stateDir: this.#paths.stateDir,
      shmPath: this.#paths.shm,
    }
  }

  /** Takes back what planning has noted of a sandbox that there is no record of; nothing of it was made. */
  async forget(): Promise<void> {
    if (!this.#planned) return
    await this.#plan.controller.shutdown(this.#planned, AbortSignal.timeout(FORGET_MS))
  }

  /** The sandbox, once there is a record of it. */
  get sandbox(): Sandbox | undefined {
    return this.#sandbox
  }

  /**
   * Runs all steps; the sandbox then runs.
   * @throws CodedError what the failing step threw; then nothing is being made any more, and what was made is in the
   * ledger of the {@link sandbox}.
   */
  async run(signal: AbortSignal): Promise<void> {
    const step = <T>(name: string, work: () => T | Promise<T>): Promise<T> => this.#steps.run(name, signal, work)
    if (!this.#plan.controller.remote) {
      await step('ensureSandboxImageExists', () => this.#deps.ensurePauseImage(signal))
    }
    const resources = await step('updateSandboxConfig', () => this.#planResources())
    const entries = sandboxIntents(resources, this.#plan.metadata.id, this.#options.bootId)
    const checkpoint = await step('prepareSandboxCheckpoint', () => this.#checkpoint(entries))
    const sandbox = await step('recordIntent', () => this.#insert(checkpoint.hash, entries))
    await this.#make(sandbox, resources, checkpoint, signal)
  }

  async #make(sandbox: Sandbox, resources: Resources, checkpoint: Checkpoint, signal: AbortSignal): Promise<void> {
    const { controller } = this.#plan
    // One that fails stops the others: nothing may still be made when the caller takes everything back.
    const group = new Group(signal)
    const step = <T>(name: string, work: () => T | Promise<T>): Promise<T> =>
      group.add(this.#steps.run(name, group.signal, work))
    try {
      const directories = step('createSandbox', () => this.#createDirectories(resources))
      const prepareKey = (): Promise<void> => step('prepareSandboxKey', () => this.#prepareKey(resources))
      const key = this.#mappings
        ? directories.then(() => step('prepareUserNamespace', () => this.#prepareUserns(resources))).then(prepareKey)
        : prepareKey()
      const files = directories.then(() => step('writeSandboxFiles', () => this.#writeFiles(checkpoint)))
      const attached = key.then(() => step('setupSandboxNetwork', () => this.#setupNetwork(resources, group.signal)))
      const network = Promise.all([attached, directories]).then(([settings]) =>
        step('updateNetworkSettings', () => this.#writeNetworkSettings(settings)),
      )
      const ready = Promise.all([key, directories, controller.networkFirst ? attached : undefined])
      const { record } = resources.controlled
      const created = ready.then(([, , settings]) => {
        const spec = settings ? { ...this.#spec, ips: ipsOf(settings) } : this.#spec
        return step('createController', () => controller.create(record, spec, group.signal))
      })
      const started = created.then(() => step('startController', () => this.#start(sandbox, record, group.signal)))
      const [networks, process] = await group.settled(Promise.all([attached, started, files, network]))
      await step('save', () => this.#save(sandbox, networks, process))
    } finally {
      group[Symbol.dispose]()
    }
  }

  async #planResources(): Promise<Resources> {
    const { metadata, controller } = this.#plan
    this.#planned = await controller.plan(this.#spec)
    return planResources(metadata, this.#paths, { sandboxer: controller.name, record: this.#planned }, this.#deps)
  }

  /** Seals what names, stops and removes the sandbox without the database, and reads it back before it is trusted. */
  #checkpoint(entries: readonly LedgerEntry[]): Checkpoint {
    const { metadata } = this.#plan
    const data: CheckpointData = {
      metadata,
      bootId: this.#options.bootId,
      resources: entries.map(({ kind, record }) => ({ kind, record })),
    }
    const checkpoint = sealCheckpoint(this.#deps.sealer, metadata.id, data)
    const { hash } = openCheckpoint(this.#deps.sealer, metadata.id, checkpoint.text)
    if (hash !== checkpoint.hash) throw new CodedError('Internal', `checkpoint of ${metadata.id}: hash does not match`)
    return checkpoint
  }

  async #insert(checkpointHash: string, entries: readonly LedgerEntry[]): Promise<Sandbox> {
    const status = { state: 'UNKNOWN', visible: false, process: null, exit: null, steps: [], failure: '' } as const
    const record = { metadata: this.#plan.metadata, checkpointHash, status, networks: [], entries, quarantined: '' }
    const sandbox = new Sandbox(record, this.#deps.sandboxDeps)
    await sandbox.insert()
    this.#sandbox = sandbox
    this.#observer.recorded(sandbox)
    return sandbox
  }

  async #prepareKey(resources: Resources): Promise<void> {
    if (resources.netns) await this.#deps.netns.acquire(resources.netns, resources.userns?.path ?? null)
  }

  async #prepareUserns({ userns }: Resources): Promise<void> {
    if (userns && this.#mappings) await this.#deps.userns.acquire(userns, this.#mappings)
  }

  async #createDirectories(resources: Resources): Promise<void> {
    await Promise.all(resources.directories.map((directory) => this.#deps.directories.acquire(directory)))
    if (resources.shm) await this.#deps.shm.acquire(resources.shm, this.#owner)
  }

  async #writeFiles(checkpoint: Checkpoint): Promise<void> {
    const { config, netMode } = this.#plan.metadata
    await Promise.all([
      writeCheckpoint(this.#paths.checkpoint, checkpoint),
      this.#writePodFile(this.#paths.hostname, `${this.#spec.hostname}\n`),
      readTextIfAny('/etc/resolv.conf').then((host) =>
        this.#writePodFile(this.#paths.resolvConf, resolvConf(config.dns_config, host)),
      ),
      netMode === 'host' ? this.#writeHosts([]) : undefined,
    ])
  }

  async #writeHosts(ips: readonly string[]): Promise<void> {
    const hostNetwork = this.#plan.metadata.netMode === 'host'
    const hostFile = hostNetwork ? await readTextIfAny('/etc/hosts') : undefined
    const text = hostsFile({ hostname: this.#spec.hostname, ips, hostNetwork, hostFile })
    await this.#writePodFile(this.#paths.hosts, text)
  }

  /** A file that the containers of the pod see as their root's. */
  async #writePodFile(path: string, text: string): Promise<void> {
    await writeFile(path, text, { mode: 0o644 })
    if (this.#owner) await chown(path, this.#owner.uid, this.#owner.gid)
  }

  async #setupNetwork(resources: Resources, signal: AbortSignal): Promise<NetworkSetting[]> {
    const settings: NetworkSetting[] = []
    for (const { attachment } of resources.attachments) {
      signal.throwIfAborted()
      // It ends by itself or at its own deadline, and is not ended because something else failed: a plugin that is killed
      // may leave what no DEL finds. (host-local makes the file of an address first and writes whose it is afterwards.)
      const result = await this.#deps.networks.add(attachment, new AbortController().signal)
      settings.push({ network: attachment.network, ifName: attachment.ifName, result })
    }
    return settings
  }

  async #start(sandbox: Sandbox, record: ControllerRecord, signal: AbortSignal): Promise<ProcessIdentity | null> {
    const process = await this.#plan.controller.start(record, signal)
    this.#observer.started(sandbox, process)
    return process
  }

  /** One commit: the sandbox runs, and everything that was intended is held. */
  async #save(sandbox: Sandbox, networks: readonly NetworkSetting[], process: ProcessIdentity | null): Promise<void> {
    const { controller } = this.#plan
    const held = sandbox.entries.map((entry) => {
      if (entry.kind === 'controller' && controller.startedRecord) {
        const { sandboxer, record } = entry.record as ControlledRecord
        return { ...entry, state: 'held' as const, record: { sandboxer, record: controller.startedRecord(record) } }
      }
      if (entry.kind !== 'cni') return { ...entry, state: 'held' as const }
      const { attachment } = entry.record as CniRecord
      const setting = networks.find(
        ({ network, ifName }) => network === attachment.network && ifName === attachment.ifName,
      )
      return { ...entry, state: 'held' as const, record: { attachment, result: setting?.result ?? null } }
    })
    await sandbox.save({
      // An exit that came in the meantime stays what it is, and so does a remote peer that was lost again.
      status: (current) => ({
        ...current,
        state: current.exit || current.state === 'PENDING' ? current.state : 'RUNNING',
        visible: true,
        process,
        steps: this.#steps.timings,
      }),
      networks,
      put: held,
    })
    const { exit } = sandbox.status
    if (exit) {
      throw new CodedError('Internal', `run pod sandbox ${sandbox.metadata.name}: it ended at once, code ${exit.code}`)
    }
  }

  /** The second source of the pod's addresses, for a node that has lost its database. */
  async #writeNetworkSettings(networks: readonly NetworkSetting[]): Promise<void> {
    if (networks.length === 0) return
    const { text } = sealCheckpoint(this.#deps.sealer, networkSubject(this.#plan.metadata.id), networks)
    await Promise.all([
      writeFile(this.#paths.networkSettings, text, { mode: 0o600 }),
      this.#writeHosts(ipsOf(networks)),
    ])
  }
}

function ipsOf(networks: readonly NetworkSetting[]): string[] {
  return networks.flatMap(({ result, ifName }) => sandboxIps(result, ifName))
}
