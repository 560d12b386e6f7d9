import type { CniArg } from './arguments.ts'
import { formatCniArgs } from './arguments.ts'
import type { CapabilityArgs } from './capabilities.ts'
import type { JsonObject, NetworkConfigList, PluginConfig } from './network-config.ts'

/**
 * One attachment of a pod to a network. Plain JSON that holds all that DEL needs: it is to be recorded before ADD, and
 * neither a changed nor a removed configuration file changes what DEL does.
 */
export interface CniAttachment {
  readonly network: string
  /** The version chosen for this attachment: ADD, CHECK and DEL speak the same. */
  readonly cniVersion: string
  readonly config: NetworkConfigList
  readonly containerId: string
  readonly netnsPath: string
  readonly ifName: string
  readonly args: readonly CniArg[]
  readonly capabilityArgs: CapabilityArgs
}

/** The CNI_* variables of an attachment. */
export function attachmentEnv(attachment: CniAttachment, netnsPath = attachment.netnsPath): Record<string, string> {
  return {
    CNI_CONTAINERID: attachment.containerId,
    CNI_NETNS: netnsPath,
    CNI_IFNAME: attachment.ifName,
    CNI_ARGS: formatCniArgs(attachment.args),
  }
}

/**
 * What one plugin of a network gets on standard input (CNI 1.1.0, "deriving request configuration"): its own
 * configuration, the network's name and version, and what is `added`. `capabilities` is for the runtime only.
 */
export function requestConfig(
  network: { readonly name: string; readonly cniVersion: string },
  plugin: PluginConfig,
  added: JsonObject = {},
): JsonObject {
  const { capabilities: _, ...own } = plugin
  return { ...own, name: network.name, cniVersion: network.cniVersion, ...added }
}

/** {@link requestConfig} for ADD, CHECK and DEL: with the capabilities that the plugin declares, and the result so far. */
export function attachmentRequest(
  attachment: CniAttachment,
  plugin: PluginConfig,
  prevResult: JsonObject | undefined,
): JsonObject {
  const declared = Object.entries(attachment.capabilityArgs).filter(([name]) => plugin.capabilities?.[name] === true)
  return requestConfig({ name: attachment.network, cniVersion: attachment.cniVersion }, plugin, {
    ...(declared.length > 0 ? { runtimeConfig: Object.fromEntries(declared) } : {}),
    ...(prevResult === undefined ? {} : { prevResult }),
  })
}
