import { isUtf8 } from 'node:buffer'
import { posix } from 'node:path'
import { invalidField } from '../core/errors.ts'
import type { ContainerConfig__Output } from '../generated/runtime/v1/ContainerConfig.ts'
import { containerCapabilities } from './container-capabilities.ts'
import type { ContainerImage, ContainerSpecInput } from './container-input.ts'
import { int64 } from './int64.ts'
import { clampOomScoreAdj } from './oom-score.ts'
import type { Process } from './spec.ts'

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** The kernel's MAX_ARG_STRLEN for one string of a command line or an environment. */
const MAX_STRING_BYTES = 128 * 1024

/** @throws CodedError `InvalidArgument` naming the field that cannot be met. */
export function containerProcess(input: ContainerSpecInput): Process {
  const { config, user, apparmorProfile, cdi } = input
  const context = config.linux?.security_context ?? null
  const { processLabel } = input.selinux
  return {
    terminal: config.tty,
    user: { ...user, additionalGids: [...new Set([user.gid, ...user.additionalGids, ...cdi.additionalGids])] },
    args: containerArgs(config, input.image),
    env: containerEnv(input),
    cwd: containerCwd(config, input.image),
    capabilities: containerCapabilities(context, input.allowedCapabilities),
    noNewPrivileges: context?.no_new_privs ?? false,
    oomScoreAdj: input.oomScoreAdj,
    ...(apparmorProfile === '' ? {} : { apparmorProfile }),
    ...(processLabel === '' ? {} : { selinuxLabel: processLabel }),
  }
}

/**
 * What to run, by the rules of Kubernetes: `command` replaces the image's entry point and its arguments, `args` only the
 * latter.
 *
 * @throws CodedError `InvalidArgument` when neither the container nor the image names a command.
 */
export function containerArgs(config: ContainerConfig__Output, image: ContainerImage): readonly string[] {
  const fromImage = config.command.length === 0
  const command = fromImage ? image.entrypoint.filter((_, at, all) => all.length > 1 || all[at] !== '') : config.command
  const args = fromImage && config.args.length === 0 ? image.cmd : config.args
  const all = [...command, ...args]
  if (all.length === 0) throw invalidField('config.command', `is missing, and image ${image.name} has none either`)
  if (all[0] === '') throw invalidField('config.command', 'must not begin with an empty string')
  for (const text of all) checkString('config.command', text)
  return all
}

/**
 * `NAME=value`, each name once: what every container has, overridden by the image, by the container, by its devices.
 *
 * @throws CodedError `InvalidArgument` for a name that is empty or contains `=`, and for NUL characters.
 */
export function containerEnv(input: ContainerSpecInput): string[] {
  const env = new Map([
    ['PATH', DEFAULT_PATH],
    ['HOSTNAME', input.hostname],
  ])
  if (input.config.tty) env.set('TERM', 'xterm')
  setAll(env, input.image.env, `env of image ${input.image.name}`)
  for (const [at, { key, value }] of input.config.envs.entries()) {
    const field = `config.envs[${at}]`
    if (key === '' || key.includes('=')) throw invalidField(`${field}.key`, `not a name: ${JSON.stringify(key)}`)
    const text = utf8(`${field}.value`, value)
    checkString(field, `${key}=${text}`)
    env.set(key, text)
  }
  setAll(env, input.cdi.env, 'env of a CDI device')
  return [...env].map(([name, value]) => `${name}=${value}`)
}

/** What has no name or no value sets nothing, as with other runtimes. */
function setAll(env: Map<string, string>, pairs: readonly string[], field: string): void {
  for (const pair of pairs) {
    checkString(field, pair)
    const at = pair.indexOf('=')
    if (at > 0) env.set(pair.slice(0, at), pair.slice(at + 1))
  }
}

/**
 * Where the process starts; runtimes make the directory when it is missing.
 *
 * @throws CodedError `InvalidArgument` for a relative path, or one through /proc/…/fd, where descriptors that a runtime
 * leaked would lead out of the container (CVE-2024-21626). Symbolic links to there are for the runtime to refuse.
 */
export function containerCwd(config: ContainerConfig__Output, image: ContainerImage): string {
  const [field, cwd] =
    config.working_dir === ''
      ? [`working directory of image ${image.name}`, image.workingDir || '/']
      : ['config.working_dir', config.working_dir]
  checkString(field, cwd)
  if (!cwd.startsWith('/')) throw invalidField(field, `must be an absolute path: ${JSON.stringify(cwd.slice(0, 256))}`)
  const parts = posix.normalize(cwd).split('/')
  if (parts[1] === 'proc' && parts.includes('fd')) {
    throw invalidField(field, `must not lead through the descriptors of a process: ${cwd}`)
  }
  return cwd
}

/**
 * The `oom_score_adj` of a container on this node; without resources 0.
 *
 * @throws CodedError `InvalidArgument` when it is not between -1000 and 1000.
 */
export function containerOomScoreAdj(
  config: ContainerConfig__Output,
  host: { readonly oomScoreAdj: number; readonly hasSysResource: boolean },
): number {
  const field = 'config.linux.resources.oom_score_adj'
  const wanted = int64(field, config.linux?.resources?.oom_score_adj ?? '0', -1000n)
  if (wanted > 1000n) throw invalidField(field, `${wanted} is not between -1000 and 1000`)
  return clampOomScoreAdj(Number(wanted), host.oomScoreAdj, host.hasSysResource)
}

/** A runtime spec is JSON, which has no other bytes. */
function utf8(field: string, value: Buffer): string {
  if (!isUtf8(value)) throw invalidField(field, 'is not UTF-8, the only text that a runtime spec can hold')
  return value.toString()
}

function checkString(field: string, text: string): void {
  if (text.includes('\0')) throw invalidField(field, 'contains a NUL character')
  if (Buffer.byteLength(text) >= MAX_STRING_BYTES) throw invalidField(field, `longer than ${MAX_STRING_BYTES} bytes`)
}
