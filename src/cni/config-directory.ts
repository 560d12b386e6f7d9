import { readdir, readFile, stat } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { CodedError, errnoOf, errorMessage } from '../core/errors.ts'
import type { NetworkConfigList, PluginConfig } from './network-config.ts'
import { parseNetworkConfig, parsePluginConfig } from './network-config.ts'

/** What a configuration directory holds. */
export interface LoadedConfigs {
  /** Sorted by file name; the first is the default network. */
  readonly configs: readonly NetworkConfigList[]
  /** Files that are not used, and why. */
  readonly skipped: readonly { readonly file: string; readonly why: string }[]
}

const MAX_FILES = 1024
const MAX_FILE_BYTES = 1024 * 1024

/**
 * Reads the networks of a directory: `.conf`, `.conflist` and `.json`, sorted by name. A file that is not usable is
 * skipped, as is one with a name that was there before; a directory that does not exist holds none.
 *
 * @throws CodedError `Internal` when the directory cannot be read.
 */
export async function loadConfigs(dir: string): Promise<LoadedConfigs> {
  const configs = new Map<string, NetworkConfigList>()
  const skipped: { file: string; why: string }[] = []
  const names = await confFileNames(dir, ['.conf', '.conflist', '.json'])
  for (const file of names.slice(MAX_FILES)) skipped.push({ file, why: `there are more than ${MAX_FILES} files` })
  for (const file of names.slice(0, MAX_FILES)) {
    try {
      const config = await loadNetwork(dir, file)
      if (configs.has(config.name))
        throw new CodedError('AlreadyExists', `network ${config.name} is in an earlier file`)
      configs.set(config.name, config)
    } catch (error) {
      skipped.push({ file, why: errorMessage(error) })
    }
  }
  return { configs: [...configs.values()], skipped }
}

/** A text that changes when anything in the directory that {@link loadConfigs} reads may have changed. */
export async function configFingerprint(dir: string): Promise<string> {
  const lines: string[] = []
  for (const path of [dir, ...(await entriesOf(dir)).map((name) => join(dir, name))].slice(0, 2 * MAX_FILES)) {
    const stats = await stat(path, { bigint: true }).catch((error: unknown) => errnoOf(error) ?? 'unknown error')
    lines.push(typeof stats === 'string' ? `${path} ${stats}` : `${path} ${stats.ino} ${stats.size} ${stats.ctimeNs}`)
    if (path === dir || typeof stats === 'string' || !stats.isDirectory()) continue
    for (const name of await confFileNames(path, ['.conf'])) {
      const inner = await stat(join(path, name), { bigint: true }).catch(() => undefined)
      lines.push(`${name} ${inner?.ino} ${inner?.size} ${inner?.ctimeNs}`)
    }
  }
  return lines.join('\n')
}

async function loadNetwork(dir: string, file: string): Promise<NetworkConfigList> {
  const { config, loadOnlyInlinedPlugins } = parseNetworkConfig(await readSmallFile(join(dir, file)))
  const more = loadOnlyInlinedPlugins ? [] : await loadPluginFolder(join(dir, config.name))
  const plugins = [...config.plugins, ...more]
  if (plugins.length === 0) throw new CodedError('InvalidArgument', 'plugins: there are none')
  return { ...config, plugins }
}

/** A sibling folder of the network's name adds plugins to its chain: that is how a vendor joins without editing files. */
async function loadPluginFolder(folder: string): Promise<PluginConfig[]> {
  const plugins: PluginConfig[] = []
  for (const name of (await confFileNames(folder, ['.conf'])).slice(0, MAX_FILES)) {
    try {
      plugins.push(parsePluginConfig(await readSmallFile(join(folder, name))))
    } catch (error) {
      // A chain without one of its plugins is another network: none is better.
      throw new CodedError('InvalidArgument', `${join(folder, name)}: ${errorMessage(error)}`, { cause: error })
    }
  }
  return plugins
}

async function confFileNames(dir: string, extensions: readonly string[]): Promise<string[]> {
  const names = await entriesOf(dir)
  // iSulad keeps the networks of its own command line, which are not for pods, beside the others under this prefix.
  return names.filter((name) => extensions.includes(extname(name)) && !name.startsWith('isulacni-'))
}

async function entriesOf(dir: string): Promise<string[]> {
  try {
    return (await readdir(dir)).sort()
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return []
    throw new CodedError('Internal', `read directory ${dir}`, { cause: error })
  }
}

async function readSmallFile(path: string): Promise<string> {
  const stats = await stat(path)
  // Opening a FIFO would wait for its writer.
  if (!stats.isFile()) throw new CodedError('InvalidArgument', 'not a file')
  if (stats.size > MAX_FILE_BYTES) throw new CodedError('InvalidArgument', `larger than ${MAX_FILE_BYTES} bytes`)
  return await readFile(path, 'utf8')
}
