import { constants } from 'node:fs'
import { access, readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { errnoOf, errorMessage } from '../core/errors.ts'
import { shimName } from '../core/runtime-type.ts'
import type { Config } from './config.ts'
import { groupId } from '../host/group.ts'
import { BUILT_IN_SANDBOXERS } from './schema.ts'

/** The places that are looked at besides those of the configuration. */
export interface HostFiles {
  readonly groupFile: string
  /** There only when systemd runs as init (sd_booted(3)). */
  readonly systemdDir: string
}

const HOST_FILES: HostFiles = {
  groupFile: '/etc/group',
  systemdDir: '/run/systemd/system',
}

/** The tables of what we serve at Unix sockets. */
const SERVERS = ['cri', 'sandboxer', 'admin'] as const

/**
 * Holds the configuration against the machine: are the programs there, do the groups exist, can the directories be made?
 * Changes nothing. What may come later (CNI configuration, remote sandboxers, images) is not asked for.
 *
 * @returns all problems, each beginning with its key; empty when the daemon can be started.
 */
export async function checkHost(config: Config, files: HostFiles = HOST_FILES): Promise<string[]> {
  const handlers = Object.entries(config.runtimes).filter(([, { sandboxer }]) =>
    BUILT_IN_SANDBOXERS.includes(sandboxer),
  )
  const checks = [
    ...handlers
      .filter(([, { runtime }]) => runtime !== '')
      .map(([name, { runtime }]) => keyed(`runtimes.${name}.runtime`, executableProblem(runtime))),
    ...handlers.map(([name, { runtimeType }]) => keyed(`runtimes.${name}.runtime_type`, shimProblem(runtimeType))),
    ...(handlers.length === 0 ? [] : [keyed('conmon.path', executableProblem(config.conmon.path))]),
    ...(handlers.length === 0 ? [] : pauseChecks(config)),
    keyed('images.skopeo', executableProblem(config.images.skopeo)),
    keyed('images.storage_tool', executableProblem(config.images.storageTool)),
    keyed('images.registries_conf', optionalFileProblem(config.images.registriesConf)),
    keyed(
      'images.policy',
      config.images.policy === '' ? Promise.resolve(undefined) : jsonProblem(config.images.policy),
    ),
    keyed('seccomp.default_profile', jsonProblem(config.seccomp.defaultProfile)),
    keyed('streaming.tls_cert_file', optionalFileProblem(config.streaming.tlsCertFile)),
    keyed('streaming.tls_key_file', optionalFileProblem(config.streaming.tlsKeyFile)),
    keyed('streaming.tls_client_ca_file', optionalFileProblem(config.streaming.tlsClientCaFile)),
    ...(config.checkpoint.enabled ? [keyed('checkpoint.criu', executableProblem(config.checkpoint.criu))] : []),
    ...SERVERS.map((name) => keyed(`${name}.group`, groupProblem(config[name].group, files.groupFile))),
    keyed('root', directoryProblem(config.root)),
    keyed('state', directoryProblem(config.state)),
    keyed('netns_dir', directoryProblem(config.netnsDir)),
    keyed('checkpoint_key_file', directoryProblem(dirname(config.checkpointKeyFile))),
    ...SERVERS.map((name) => keyed(`${name}.socket`, directoryProblem(dirname(config[name].socket)))),
    ...(config.cgroup.driver === 'systemd' ? [keyed('cgroup.driver', systemdProblem(files.systemdDir))] : []),
  ]
  return (await Promise.all(checks)).filter((problem) => problem !== undefined)
}

function pauseChecks({ pause }: Config): Promise<string | undefined>[] {
  return pause.image === '' ? [keyed('pause.binary', executableProblem(pause.binary))] : []
}

async function keyed(key: string, check: Promise<string | undefined>): Promise<string | undefined> {
  try {
    const why = await check
    return why === undefined ? undefined : `${key}: ${why}`
  } catch (error) {
    return `${key}: cannot be checked: ${errorMessage(error)}`
  }
}

async function executableProblem(path: string): Promise<string | undefined> {
  try {
    if (!(await stat(path)).isFile()) return `${path} is not a file`
    await access(path, constants.X_OK)
    return undefined
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return `${path} does not exist`
    if (errnoOf(error) === 'EACCES') return `${path} is not executable`
    throw error
  }
}

async function optionalFileProblem(path: string): Promise<string | undefined> {
  if (path === '') return undefined
  try {
    return (await stat(path)).isFile() ? undefined : `${path} is not a file`
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return `${path} does not exist`
    throw error
  }
}

async function jsonProblem(path: string): Promise<string | undefined> {
  try {
    JSON.parse(await readFile(path, 'utf8'))
    return undefined
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return `${path} does not exist`
    if (error instanceof SyntaxError) return `${path} is not JSON: ${error.message}`
    throw error
  }
}

async function groupProblem(group: string, groupFile: string): Promise<string | undefined> {
  if (group === '' || (await groupId(group, groupFile)) !== undefined) return undefined
  return `there is no group ${group} in ${groupFile}`
}

/** A directory may be missing: the daemon makes it. What exists on the way to it must be a writable directory. */
async function directoryProblem(path: string): Promise<string | undefined> {
  try {
    if (!(await stat(path)).isDirectory()) return `${path} is not a directory`
    await access(path, constants.W_OK | constants.X_OK)
    return undefined
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' && path !== '/') return directoryProblem(dirname(path))
    if (errnoOf(error) === 'ENOTDIR') return directoryProblem(dirname(path))
    if (errnoOf(error) === 'EACCES' || errnoOf(error) === 'EROFS') return `${path} is not writable`
    throw error
  }
}

async function systemdProblem(systemdDir: string): Promise<string | undefined> {
  try {
    await stat(systemdDir)
    return undefined
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 'systemd is not the init of this machine'
    throw error
  }
}

async function shimProblem(runtimeType: string): Promise<string | undefined> {
  if (runtimeType === '') return undefined
  if (runtimeType.startsWith('/')) return executableProblem(runtimeType)
  const directories = (process.env['PATH'] ?? '').split(':').filter((directory) => directory.startsWith('/'))
  const name = shimName(runtimeType) ?? ''
  const problems = await Promise.all(directories.map((directory) => executableProblem(join(directory, name))))
  return problems.includes(undefined) ? undefined : `there is no ${name} in ${directories.join(', ')}`
}
