import { writeFile } from 'node:fs/promises'
import { type Checkpoint, openCheckpoint, sealCheckpoint, writeCheckpoint } from '../checkpoint/checkpoint.ts'
import type { CniNetworks } from '../cni/cni-networks.ts'
import type { Controller, ControllerRecord, SandboxSpec } from '../controller/controller.ts'
import { sandboxIps } from '../cni/result.ts'
import { CodedError } from '../core/errors.ts'
import type { Failpoints } from '../core/failpoints.ts'
import { type Group, together } from '../core/group.ts'
import type { Observer } from '../core/observer.ts'
import type { DurableDeps } from '../lifecycle/durable.ts'
import type { Sealer } from '../core/seal.ts'
import type { Owner } from '../host/kernel/kernel.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { NetnsPins } from '../netns/netns.ts'
import { mappedRoot, type UserMappings, userMappings } from '../oci/user-namespace.ts'
import type { LedgerEntry } from '../store/ledger.ts'
import type { CniRecord } from './kinds/cni.ts'
import type { FrontEndPlaces } from './kinds/front-end.ts'
import type { ControlledRecord } from './kinds/controlled.ts'
import type { Directories } from '../lifecycle/directories.ts'
import type { ShmMounts } from './kinds/shm.ts'
import type { UsernsPins } from './kinds/userns.ts'
import { type SandboxPaths, type SandboxRoots, sandboxPaths } from './paths.ts'
import { planResources, plannedResources, type Resources, sandboxIntents } from './resources.ts'
import { Sandbox } from './sandbox.ts'
import { type CheckpointData, type NetworkSetting, networkSubject } from './status.ts'
import type { Steps } from '../lifecycle/steps.ts'
import type { SandboxMetadata } from './types.ts'
import { podHostname, type PodFilesPlace, writeHosts, writeNames } from './write-pod-files.ts'

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
  readonly frontEnd: FrontEndPlaces
  readonly failpoints: Failpoints
  /** Default: nobody. */
  readonly observer?: Observer | undefined
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

/** What is on record of a sandbox, and is going to be made. */
interface Recorded {
  readonly sandbox: Sandbox
  readonly resources: Resources
  readonly checkpoint: Checkpoint
}

/** What is under way of it. */
interface Making {
  readonly attached: Promise<NetworkSetting[]>
  readonly created: Promise<void>
  readonly rest: Promise<unknown>
}

/**
 * The steps of RunPodSandbox, in iSulad's words. Nothing is made before `recordIntent`; what is made afterwards is in
 * the ledger, so that whoever calls this can take it back when a step fails, and the next daemon can when this one dies.
 *
 * The network is set up while the pause process is created and started: neither needs the other, only the namespace.
 *
 * One that is served to another front end is made and started when that asks for either.
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
  #recorded: Recorded | undefined
  #planned: ControllerRecord | undefined

  constructor(plan: RunPlan, steps: Steps, observer: RunObserver, options: RunOptions, deps: RunDeps) {
    this.#plan = plan
    this.#steps = steps
    this.#observer = observer
    this.#options = options
    this.#deps = deps
    const { metadata } = plan
    steps.of(metadata.id)
    this.#paths = sandboxPaths(options.roots, metadata.id)
    this.#mappings = userMappings(metadata.config.linux?.security_context?.namespace_options ?? null)
    this.#owner = this.#mappings && mappedRoot(this.#mappings)
    this.#spec = {
      id: metadata.id,
      config: metadata.config,
      hostname: podHostname(metadata),
      runtimeHandler: plan.runtimeHandler,
      sandboxer: metadata.sandboxer,
      netnsPath: metadata.netnsPath,
      usernsPath: this.#mappings ? this.#paths.userns : '',
      stateDir: this.#paths.stateDir,
      shmPath: this.#paths.shm,
      ...(metadata.served ? { ips: metadata.served.ips } : {}),
      ...(metadata.served?.shim ? { shim: metadata.served.shim } : {}),
    }
  }

  /** Goes on with a sandbox that is on record. @throws CodedError `DataLoss` when that does not hold together. */
  resume(sandbox: Sandbox): void {
    const resources = plannedResources(sandbox.entries)
    const checkpoint = this.#checkpoint(sandbox.entries)
    if (checkpoint.hash !== sandbox.checkpointHash) {
      throw new CodedError('DataLoss', `sandbox ${sandbox.id}: its ledger is not that of its checkpoint`)
    }
    this.#recorded = { sandbox, resources, checkpoint }
  }

  /** Takes back what planning has noted of a sandbox that there is no record of; nothing of it was made. */
  async forget(): Promise<void> {
    if (!this.#planned) return
    await this.#plan.controller.shutdown(this.#planned, AbortSignal.timeout(FORGET_MS))
  }

  /** The sandbox, once there is a record of it. */
  get sandbox(): Sandbox | undefined {
    return this.#recorded?.sandbox
  }

  /**
   * Runs all steps; the sandbox then runs.
   * @throws CodedError what the failing step threw; then nothing is being made any more, and what was made is in the
   * ledger of the {@link sandbox}.
   */
  async run(signal: AbortSignal): Promise<void> {
    const recorded = await this.#record(signal)
    const [networks, process] = await together(signal, (group) => {
      const { attached, created, rest } = this.#beginToMake(recorded, group)
      const started = created.then(() => this.#inGroup(group, 'startController', () => this.#start(group.signal)))
      return Promise.all([attached, started, rest])
    })
    await this.#step('save', signal, () => this.#save(recorded.sandbox, networks, process))
  }

  /** All steps but the start. @throws CodedError as {@link run}. */
  async create(signal: AbortSignal): Promise<void> {
    await this.#record(signal)
    await this.make(signal)
  }

  /** Those of them that make what is on record. @throws CodedError as {@link run}. */
  async make(signal: AbortSignal): Promise<void> {
    const recorded = this.#onRecord()
    await together(signal, (group) => Promise.all(Object.values(this.#beginToMake(recorded, group))))
  }

  /** The start of what was made. @throws CodedError as {@link run}. */
  async start(signal: AbortSignal): Promise<void> {
    const process = await this.#step('startController', signal, () => this.#start(signal))
    await this.#step('save', signal, () => this.#save(this.#onRecord().sandbox, [], process))
  }

  #step<T>(name: string, signal: AbortSignal, work: () => T | Promise<T>): Promise<T> {
    return this.#steps.run(name, signal, work)
  }

  #inGroup<T>(group: Group, name: string, work: () => T | Promise<T>): Promise<T> {
    return group.add(this.#step(name, group.signal, work))
  }

  #onRecord(): Recorded {
    if (this.#recorded) return this.#recorded
    throw new CodedError('Internal', `sandbox ${this.#plan.metadata.id}: it is not on record`)
  }

  async #record(signal: AbortSignal): Promise<Recorded> {
    if (!this.#plan.controller.remote) {
      await this.#step('ensureSandboxImageExists', signal, () => this.#deps.ensurePauseImage(signal))
    }
    const resources = await this.#step('updateSandboxConfig', signal, () => this.#planResources())
    const entries = sandboxIntents(resources, this.#plan.metadata.id, this.#options.bootId)
    const checkpoint = await this.#step('prepareSandboxCheckpoint', signal, () => this.#checkpoint(entries))
    await this.#step('recordIntent', signal, () => this.#insert({ resources, checkpoint }, entries))
    return this.#onRecord()
  }

  /** One that fails stops the others: nothing may still be made when the caller takes everything back. */
  #beginToMake({ resources, checkpoint }: Recorded, group: Group): Making {
    const { controller } = this.#plan
    const step = <T>(name: string, work: () => T | Promise<T>): Promise<T> => this.#inGroup(group, name, work)
    const directories = step('createSandbox', () => this.#createDirectories(resources))
    const prepareKey = (): Promise<void> => step('prepareSandboxKey', () => this.#prepareKey(resources))
    const key = this.#mappings
      ? directories.then(() => step('prepareUserNamespace', () => this.#prepareUserns(resources))).then(prepareKey)
      : prepareKey()
    const files = directories.then(() => step('writeSandboxFiles', () => this.#writeFiles(resources, checkpoint)))
    const attached = key.then(() => step('setupSandboxNetwork', () => this.#setupNetwork(resources, group.signal)))
    const network = Promise.all([attached, directories]).then(([settings]) =>
      step('updateNetworkSettings', () => this.#writeNetworkSettings(settings)),
    )
    const ready = Promise.all([key, directories, controller.networkFirst ? attached : undefined])
    const created = ready.then(([, , settings]) => {
      const spec = settings?.length ? { ...this.#spec, ips: ipsOf(settings), networks: settings } : this.#spec
      return step('createController', () => controller.create(resources.controlled.record, spec, group.signal))
    })
    return { attached, created, rest: Promise.all([files, network]) }
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

  async #insert(made: Omit<Recorded, 'sandbox'>, entries: readonly LedgerEntry[]): Promise<void> {
    const { metadata } = this.#plan
    const empty = { state: 'UNKNOWN', process: null, exit: null, steps: [], failure: '' } as const
    // One that is served goes on from here when its front end says so, to whichever daemon.
    const status = metadata.served
      ? ({ ...empty, visible: true, phase: 'created' } as const)
      : { ...empty, visible: false }
    const checkpointHash = made.checkpoint.hash
    const sandbox = new Sandbox(
      { metadata, checkpointHash, status, networks: [], entries, quarantined: '' },
      this.#deps.sandboxDeps,
    )
    await sandbox.insert()
    this.#recorded = { ...made, sandbox }
    this.#observer.recorded(sandbox)
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

  async #writeFiles(resources: Resources, checkpoint: Checkpoint): Promise<void> {
    const { metadata } = this.#plan
    await Promise.all([
      writeCheckpoint(this.#paths.checkpoint, checkpoint),
      metadata.served
        ? restoreFrontEnd(metadata, resources, this.#deps)
        : Promise.all([
            writeNames(metadata, this.#filesPlace),
            metadata.netMode === 'host' ? writeHosts(metadata, [], this.#filesPlace) : undefined,
          ]),
    ])
  }

  get #filesPlace(): PodFilesPlace {
    return { directory: this.#paths.rootDir, owner: this.#owner }
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

  async #start(signal: AbortSignal): Promise<ProcessIdentity | null> {
    const { sandbox, resources } = this.#onRecord()
    const process = await this.#plan.controller.start(resources.controlled.record, signal)
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
        ...(current.phase ? { phase: 'started' as const } : {}),
        process,
        steps: this.#steps.timings,
      }),
      // Those of a served one are its front end's.
      ...(sandbox.metadata.served ? {} : { networks }),
      put: held,
      log: { why: 'it was started', sandboxer: sandbox.metadata.sandboxer, steps: this.#steps.timings },
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
      writeHosts(this.#plan.metadata, ipsOf(networks), this.#filesPlace),
    ])
  }
}

function ipsOf(networks: readonly NetworkSetting[]): string[] {
  return networks.flatMap(({ result, ifName }) => sandboxIps(result, ifName))
}

/** Makes what the front end of a served sandbox expects of us at its own places. What is there already stays. */
export async function restoreFrontEnd(
  metadata: SandboxMetadata,
  { frontEnd, shm }: Pick<Resources, 'frontEnd' | 'shm'>,
  deps: Pick<RunDeps, 'frontEnd'>,
): Promise<void> {
  if (!frontEnd) return
  await deps.frontEnd.acquire(frontEnd, shm?.path ?? '')
  const place = { directory: frontEnd.files, owner: null }
  await Promise.all([writeNames(metadata, place), writeHosts(metadata, metadata.served?.ips ?? [], place)])
}
