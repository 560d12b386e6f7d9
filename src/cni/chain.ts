import { deadline } from '../core/deadline.ts'
import { CodedError, errorCode, errorMessage } from '../core/errors.ts'
import type { CniAttachment } from './attachment.ts'
import { isPinnedNamespace } from '../host/kernel/namespace-file.ts'
import { attachmentEnv, attachmentRequest, requestConfig } from './attachment.ts'
import type { JsonObject, PluginConfig } from './network-config.ts'
import type { CniCommand, PluginRunner } from './plugin.ts'
import { CniPluginError, UNKNOWN_CONTAINER } from './plugin.ts'
import type { CniResult } from './result.ts'
import { parseResult } from './result.ts'
import type { UsableNetwork } from './usable-network.ts'
import { isAtLeast } from './version.ts'

/** How long a chain of plugins may take as a whole, and who may end it earlier. */
export interface ChainLimits {
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/** ADD: the plugins in order, each with the result of the one before. @throws CniPluginError of the first that fails. */
export async function addChain(
  runner: PluginRunner,
  attachment: CniAttachment,
  limits: ChainLimits,
): Promise<CniResult> {
  using limit = deadline(`CNI ADD of network ${attachment.network}`, limits.timeoutMs, limits.signal)
  const env = attachmentEnv(attachment)
  let result: CniResult | undefined
  for (const plugin of attachment.config.plugins) {
    const call = { command: 'ADD', type: plugin.type } as const
    const config = attachmentRequest(attachment, plugin, result?.raw)
    const stdout = await runner.call({ ...call, config, env, timeoutMs: limits.timeoutMs, signal: limit.signal })
    try {
      result = parseResult(stdout, attachment.cniVersion)
    } catch (error) {
      throw new CniPluginError(call, 'Internal', errorMessage(error), { cause: error })
    }
  }
  if (!result) throw new CodedError('Internal', `CNI ADD of network ${attachment.network}: it has no plugins`)
  return result
}

/**
 * DEL: the plugins in reverse order, each tried with its share of the time even if another one fails or hangs.
 * A plugin that does not know the container has nothing to clean up: that is success.
 *
 * @throws CodedError naming every plugin that failed.
 */
export async function delChain(
  runner: PluginRunner,
  attachment: CniAttachment,
  result: CniResult | null,
  limits: ChainLimits,
): Promise<void> {
  const isNetnsThere = await isPinnedNamespace(attachment.netnsPath)
  const env = attachmentEnv(attachment, isNetnsThere ? attachment.netnsPath : '')
  const prevResult = result && isAtLeast(attachment.cniVersion, '0.4.0') ? result.raw : undefined
  const endsAt = performance.now() + limits.timeoutMs
  const plugins = [...attachment.config.plugins].reverse()
  const errors: unknown[] = []
  for (const [index, plugin] of plugins.entries()) {
    limits.signal.throwIfAborted()
    const config = attachmentRequest(attachment, plugin, prevResult)
    const timeoutMs = Math.ceil(Math.max(1, (endsAt - performance.now()) / (plugins.length - index)))
    try {
      await runner.call({ command: 'DEL', type: plugin.type, config, env, timeoutMs, signal: limits.signal })
    } catch (error) {
      if (error instanceof CniPluginError && error.pluginCode === UNKNOWN_CONTAINER) continue
      errors.push(error)
    }
  }
  throwAll(`CNI DEL of network ${attachment.network}`, errors)
}

/** CHECK: the plugins in order, each with the final result of ADD. Does nothing where CHECK is not to be called. */
export async function checkChain(
  runner: PluginRunner,
  attachment: CniAttachment,
  result: CniResult,
  limits: ChainLimits,
): Promise<void> {
  if (attachment.config.disableCheck || !isAtLeast(attachment.cniVersion, '0.4.0')) return
  using limit = deadline(`CNI CHECK of network ${attachment.network}`, limits.timeoutMs, limits.signal)
  const env = attachmentEnv(attachment)
  for (const plugin of attachment.config.plugins) {
    const config = attachmentRequest(attachment, plugin, result.raw)
    await runner.call({
      command: 'CHECK',
      type: plugin.type,
      config,
      env,
      timeoutMs: limits.timeoutMs,
      signal: limit.signal,
    })
  }
}

/** STATUS of a whole network. Does nothing before CNI 1.1.0. @throws CniPluginError of the first that is not ready. */
export async function statusChain(runner: PluginRunner, network: UsableNetwork, limits: ChainLimits): Promise<void> {
  if (!isAtLeast(network.cniVersion, '1.1.0')) return
  using limit = deadline(`CNI STATUS of network ${network.config.name}`, limits.timeoutMs, limits.signal)
  for (const plugin of network.config.plugins) {
    await callForNetwork(runner, 'STATUS', network, plugin, {}, { ...limits, signal: limit.signal })
  }
}

/** Whether GC exists for a network and its administrator allows it. */
export function isCollected(network: UsableNetwork): boolean {
  return !network.config.disableGc && isAtLeast(network.cniVersion, '1.1.0')
}

/**
 * GC: every plugin of the network is told which attachments are valid. Only for networks that {@link isCollected}.
 *
 * @throws CodedError naming every plugin that failed.
 */
export async function gcChain(
  runner: PluginRunner,
  network: UsableNetwork,
  valid: readonly CniAttachment[],
  limits: ChainLimits,
): Promise<void> {
  using limit = deadline(`CNI GC of network ${network.config.name}`, limits.timeoutMs, limits.signal)
  const attachments = valid.map(({ containerId, ifName }) => ({ containerID: containerId, ifname: ifName }))
  // The second name is that of libcni 1.2.0 to 1.2.2; plugins built with those read no other.
  const added = { 'cni.dev/valid-attachments': attachments, 'cni.dev/attachments': attachments }
  const errors: unknown[] = []
  for (const plugin of network.config.plugins) {
    limits.signal.throwIfAborted()
    try {
      await callForNetwork(runner, 'GC', network, plugin, added, { ...limits, signal: limit.signal })
    } catch (error) {
      errors.push(error)
    }
  }
  throwAll(`CNI GC of network ${network.config.name}`, errors)
}

async function callForNetwork(
  runner: PluginRunner,
  command: CniCommand,
  network: UsableNetwork,
  plugin: PluginConfig,
  added: JsonObject,
  limits: ChainLimits,
): Promise<void> {
  const config = requestConfig({ name: network.config.name, cniVersion: network.cniVersion }, plugin, added)
  await runner.call({ command, type: plugin.type, config, ...limits })
}

function throwAll(what: string, errors: readonly unknown[]): void {
  if (errors.length === 0) return
  const cause = errors.length === 1 ? errors[0] : new AggregateError(errors)
  throw new CodedError(errorCode(errors[0]), `${what}: ${errors.map(errorMessage).join('; ')}`, { cause })
}
