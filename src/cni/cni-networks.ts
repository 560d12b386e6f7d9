import type { Logger } from 'pino'
import { deadline } from '../core/deadline.ts'
import { CodedError, errorCode, errorMessage, invalidField } from '../core/errors.ts'
import type { Observer } from '../core/observer.ts'
import type { RunProgram } from '../host/programs/outcome.ts'
import { run } from '../host/programs/run.ts'
import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'
import { cniArgs } from './arguments.ts'
import type { CniAttachment } from './attachment.ts'
import { isCidr, podCapabilities, primaryCapabilities } from './capabilities.ts'
import type { ChainLimits } from './chain.ts'
import { addChain, checkChain, delChain, gcChain, isCollected } from './chain.ts'
import type { WatchDirectory } from './directory-watcher.ts'
import { watchWithInotify } from './directory-watcher.ts'
import { NetworkDirectory } from './network-directory.ts'
import { NetworkLines } from './network-lines.ts'
import { networkPlanes, PRIMARY_INTERFACE } from './network-planes.ts'
import { PluginRunner } from './plugin.ts'
import type { NetworkStatus } from './readiness.ts'
import type { CniResult } from './result.ts'
import type { UsableNetwork } from './usable-network.ts'
import { brokenMessage } from './usable-network.ts'

export interface CniNetworksOptions {
  readonly confDir: string
  /** Where plugins are looked for, in this order; also their CNI_PATH. */
  readonly binDirs: readonly string[]
  /** How many plugin chains of one network run at a time; more wait in line. */
  readonly maxConcurrent: number
  /** How long one chain may take once it runs. */
  readonly timeoutMs: number
  /** How often the directory is looked at and STATUS is asked. */
  readonly reloadIntervalMs: number
  /** How long plugins that were ready may fail STATUS before the network is not ready. Default 60 s. */
  readonly statusGraceMs?: number
}

export interface CniNetworksDeps {
  readonly logger: Pick<Logger, 'debug' | 'info' | 'warn'>
  /** How plugins are run; default: from the calling thread. */
  readonly run?: RunProgram
  /** Default: inotify. */
  readonly watch?: WatchDirectory
  /** Default: nobody. */
  readonly observer?: Observer
  /** A clock that never goes back. */
  readonly nowMs?: () => number
}

/** A pod as {@link CniNetworks.plan} needs it. */
export interface PodToAttach {
  readonly id: string
  readonly netnsPath: string
  readonly config: PodSandboxConfig__Output
}

const STATUS_GRACE_MS = 60_000

/**
 * The networks of this node: the runtime side of CNI 0.3.0 to 1.1.0. It keeps nothing on disk and remembers no pod:
 * what DEL needs is in the {@link CniAttachment} and the {@link CniResult}, which the caller stores.
 *
 * As CNI demands, the caller runs one operation at a time for one pod, and DEL for every ADD, also a failed one.
 */
export class CniNetworks implements AsyncDisposable {
  readonly #timeoutMs: number
  readonly #runner: PluginRunner
  readonly #directory: NetworkDirectory
  readonly #lines: NetworkLines
  #podCidrs: readonly string[] = []

  constructor(options: CniNetworksOptions, deps: CniNetworksDeps) {
    const { logger, watch = watchWithInotify, nowMs = () => performance.now() } = deps
    const { statusGraceMs = STATUS_GRACE_MS } = options
    this.#timeoutMs = options.timeoutMs
    this.#runner = new PluginRunner(options, { logger, run: deps.run ?? run, observer: deps.observer })
    this.#lines = new NetworkLines(options)
    this.#directory = new NetworkDirectory(
      { ...options, statusGraceMs },
      { runner: this.#runner, logger, watch, nowMs },
    )
  }

  /** Loads the configuration, asks the default network for its status and follows both from then on. */
  async start(): Promise<void> {
    await this.#directory.start()
  }

  /** Reads the configuration now, whether it seems to have changed or not. Failures are told in the log. */
  async reload(): Promise<void> {
    await this.#directory.reload()
  }

  /** Stops following. Chains that run are not ended: their callers own them. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#directory[Symbol.asyncDispose]()
  }

  /** Whether pods can get a network. What was last observed: it waits for nothing. */
  status(): NetworkStatus {
    return this.#directory.status
  }

  /** The subnets from which the `ipRanges` capability asks for one address each. @throws CodedError `InvalidArgument`. */
  setPodCidrs(cidrs: readonly string[]): void {
    const wrong = cidrs.find((cidr) => !isCidr(cidr))
    if (wrong !== undefined) {
      throw invalidField('runtime_config.network_config.pod_cidr', `${JSON.stringify(wrong)} is not a subnet`)
    }
    this.#podCidrs = [...cidrs]
  }

  /**
   * The attachments that a pod is to get, the default network's first; nothing is done yet.
   *
   * @throws CodedError `FailedPrecondition` when a network is not usable, `InvalidArgument` naming the field.
   */
  plan(pod: PodToAttach): CniAttachment[] {
    const { networks } = this.#directory
    const [first] = networks
    const refuse = (why: string): CodedError => new CodedError('FailedPrecondition', `attach pod ${pod.id}: ${why}`)
    if (!first) throw refuse(this.status().message)
    const byName = new Map(networks.map((network) => [network.config.name, network]))
    const planes = networkPlanes(pod.config.annotations, first.config.name, new Set(byName.keys()))
    const args = cniArgs(pod.id, pod.config)
    const ofPod = podCapabilities(pod.config)
    const ofPrimary = primaryCapabilities(pod.config, this.#podCidrs)
    return planes.map((plane) => {
      const network = byName.get(plane.network) ?? first
      if ('problem' in network) throw refuse(brokenMessage(network))
      return {
        network: plane.network,
        cniVersion: network.cniVersion,
        config: network.config,
        containerId: pod.id,
        netnsPath: pod.netnsPath,
        ifName: plane.ifName,
        args,
        capabilityArgs: { ...ofPod, ...(plane.ifName === PRIMARY_INTERFACE ? ofPrimary : {}), ...plane.capabilities },
      }
    })
  }

  /**
   * Attaches a pod: the network's plugins in order. On failure, what earlier plugins did is still there: call
   * {@link del}. Waits in line as long as `signal` allows, then runs for at most `timeoutMs`.
   *
   * @throws CniPluginError with the plugin's code, message and details; the signal's reason.
   */
  async add(attachment: CniAttachment, signal: AbortSignal): Promise<CniResult> {
    using _turn = await this.#lines.enter(attachment.network, 'shared', signal)
    return await addChain(this.#runner, attachment, this.#limits(signal))
  }

  /**
   * Detaches a pod with the configuration and arguments of its ADD, whatever is configured now. May be repeated; a
   * netns or container that is gone is success. `result` is that of ADD, or null when it is not known.
   *
   * @throws CodedError naming every plugin that failed or is not installed any more: the detachment is still owed.
   */
  async del(attachment: CniAttachment, result: CniResult | null, signal: AbortSignal): Promise<void> {
    using _turn = await this.#lines.enter(attachment.network, 'shared', signal)
    await delChain(this.#runner, attachment, result, this.#limits(signal))
  }

  /**
   * Whether an attachment is still as ADD left it. Says nothing where CHECK does not exist (before 0.4.0) or is disabled.
   *
   * @throws CniPluginError of the first plugin that finds something wrong.
   */
  async check(attachment: CniAttachment, result: CniResult, signal: AbortSignal): Promise<void> {
    using _turn = await this.#lines.enter(attachment.network, 'shared', signal)
    await checkChain(this.#runner, attachment, result, this.#limits(signal))
  }

  /**
   * Lets the plugins of CNI 1.1.0 networks remove what belongs to no valid attachment. It waits until nothing is added
   * or deleted in a network; only then `valid` is called, and what it leaves out is destroyed: it must return every
   * attachment that is recorded, in whatever state.
   *
   * @throws CodedError naming every network that failed.
   */
  async gc(valid: () => readonly CniAttachment[], signal: AbortSignal): Promise<void> {
    const errors: unknown[] = []
    for (const network of this.#directory.networks) {
      if ('problem' in network || !isCollected(network)) continue
      signal.throwIfAborted()
      try {
        await this.#gcNetwork(network, valid, signal)
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length === 0) return
    throw new CodedError(errorCode(errors[0]), errors.map(errorMessage).join('; '), {
      cause: new AggregateError(errors),
    })
  }

  async #gcNetwork(network: UsableNetwork, valid: () => readonly CniAttachment[], signal: AbortSignal): Promise<void> {
    const { name } = network.config
    using patience = deadline(`wait for CNI network ${name} to be idle`, this.#timeoutMs, signal)
    using _turn = await this.#lines.enter(name, 'alone', patience.signal)
    const attachments = valid().filter((attachment) => attachment.network === name)
    await gcChain(this.#runner, network, attachments, this.#limits(signal))
  }

  #limits(signal: AbortSignal): ChainLimits {
    return { timeoutMs: this.#timeoutMs, signal }
  }
}
