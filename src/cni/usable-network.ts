import type { JsonObject, NetworkConfigList } from './network-config.ts'
import { isJsonObject, pluginTypePattern } from './network-config.ts'
import { CniPluginError } from './plugin.ts'
import type { PluginRunner } from './plugin.ts'
import type { CniVersion, PluginVersions } from './version.ts'
import { chooseVersion } from './version.ts'

/** A network whose plugins are there and speak a common version. */
export interface UsableNetwork {
  readonly config: NetworkConfigList
  readonly cniVersion: CniVersion
}

/** A network that is configured but cannot be used, and why, for a person to read. */
export interface BrokenNetwork {
  readonly config: NetworkConfigList
  readonly problem: string
}

export type Network = UsableNetwork | BrokenNetwork

export function brokenMessage(network: BrokenNetwork): string {
  return `CNI network ${network.config.name} cannot be used: ${network.problem}`
}

/**
 * Chooses the version of a network with its plugins. A plugin that is not installed makes the network broken: a pod
 * must not be attached to the next best network instead.
 *
 * @throws the signal's reason
 */
export async function resolveNetwork(
  runner: PluginRunner,
  config: NetworkConfigList,
  limits: { timeoutMs: number; signal: AbortSignal },
): Promise<Network> {
  const plugins: PluginVersions[] = []
  try {
    for (const plugin of config.plugins) {
      plugins.push({
        type: plugin.type,
        versions: await runner.supportedVersions(plugin.type, limits.timeoutMs, limits.signal),
      })
      plugins.push(...(await ipamVersions(runner, plugin, limits)))
    }
  } catch (error) {
    if (!(error instanceof CniPluginError)) throw error
    return { config, problem: error.message }
  }
  const choice = chooseVersion(config.cniVersions, plugins)
  return 'version' in choice ? { config, cniVersion: choice.version } : { config, problem: choice.problem }
}

/** A delegate speaks the version of its caller. One that is not found is the caller's affair: it may be built in. */
async function ipamVersions(
  runner: PluginRunner,
  plugin: JsonObject,
  limits: { timeoutMs: number; signal: AbortSignal },
): Promise<PluginVersions[]> {
  const ipam = plugin['ipam']
  const type = isJsonObject(ipam) ? ipam['type'] : undefined
  if (typeof type !== 'string' || !pluginTypePattern.test(type)) return []
  try {
    return [{ type, versions: await runner.supportedVersions(type, limits.timeoutMs, limits.signal) }]
  } catch (error) {
    if (error instanceof CniPluginError) return []
    throw error
  }
}
