/** The versions of the CNI specification that this runtime speaks, lowest first. */
export const cniVersions = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const

export type CniVersion = (typeof cniVersions)[number]

function isCniVersion(text: string): text is CniVersion {
  return (cniVersions as readonly string[]).includes(text)
}

/** Whether `version` has what came with `since`; false for versions that this runtime does not speak. */
export function isAtLeast(version: string, since: CniVersion): boolean {
  return isCniVersion(version) && cniVersions.indexOf(version) >= cniVersions.indexOf(since)
}

/** What a plugin says it speaks; `undefined` when it did not answer VERSION, which then limits nothing. */
export interface PluginVersions {
  readonly type: string
  readonly versions: readonly string[] | undefined
}

export type VersionChoice = { readonly version: CniVersion } | { readonly problem: string }

/**
 * The highest version that the configuration allows, this runtime speaks and every plugin of the chain supports
 * (CNI 1.1.0, "version considerations"); otherwise why there is none, for a person to read.
 */
export function chooseVersion(allowed: readonly string[], plugins: readonly PluginVersions[]): VersionChoice {
  const candidates = cniVersions.filter((version) => allowed.includes(version)).reverse()
  if (candidates.length === 0) {
    const wanted = allowed.length === 0 ? 'no cniVersion given' : `cniVersion ${allowed.join(', ')} is not supported`
    return { problem: `${wanted} (this runtime speaks ${cniVersions.join(', ')})` }
  }
  const refused = (version: string): PluginVersions | undefined =>
    plugins.find((plugin) => plugin.versions !== undefined && !plugin.versions.includes(version))
  const version = candidates.find((candidate) => refused(candidate) === undefined)
  if (version) return { version }
  const culprit = candidates[0] === undefined ? undefined : refused(candidates[0])
  const speaks = culprit?.versions?.join(', ') || 'none'
  return {
    problem: `plugin ${culprit?.type} does not support cniVersion ${candidates.join(', ')} (it speaks ${speaks})`,
  }
}
