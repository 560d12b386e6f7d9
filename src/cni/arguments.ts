import { invalidField } from '../core/errors.ts'
import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'

const EXTENSION_ANNOTATION = 'extension.network.kubernetes.io/cni'
const ARGUMENT_ANNOTATIONS = 'extension.network.kubernetes.io/cniargs/'
const MAX_BYTES = 64 * 1024

/** Key and value of one CNI argument. */
export type CniArg = readonly [string, string]

/**
 * The CNI_ARGS of a pod: who it is, then what its annotations add.
 * `extension.network.kubernetes.io/cni` becomes CNI_MUTLINET_EXTENSION (the name that plugins written for iSulad read);
 * each `extension.network.kubernetes.io/cniargs/…` is one `key=value`. The first of equal keys stays, so an annotation
 * cannot say that a pod is another one.
 *
 * @throws CodedError `InvalidArgument` naming the field whose value would change what the plugin reads.
 */
export function cniArgs(podId: string, config: PodSandboxConfig__Output): CniArg[] {
  const { metadata } = config
  if (!metadata) throw invalidField('config.metadata', 'missing')
  const args = new Map<string, string>([
    ['IgnoreUnknown', '1'],
    ['K8S_POD_NAMESPACE', checkedValue('config.metadata.namespace', metadata.namespace)],
    ['K8S_POD_NAME', checkedValue('config.metadata.name', metadata.name)],
    ['K8S_POD_INFRA_CONTAINER_ID', checkedValue('sandbox id', podId)],
    ['K8S_POD_UID', checkedValue('config.metadata.uid', metadata.uid)],
  ])
  for (const [name, value] of Object.entries(config.annotations).sort(byKey)) {
    const field = `config.annotations[${name}]`
    const pair = argumentOf(name, value, field)
    if (pair && !args.has(pair[0])) args.set(pair[0], checkedValue(field, pair[1]))
  }
  const pairs = [...args]
  if (Buffer.byteLength(formatCniArgs(pairs)) > MAX_BYTES) {
    throw invalidField('config.annotations', `the CNI arguments are longer than ${MAX_BYTES} bytes`)
  }
  return pairs
}

/** The value of the environment variable CNI_ARGS. */
export function formatCniArgs(args: readonly CniArg[]): string {
  return args.map(([key, value]) => `${key}=${value}`).join(';')
}

function argumentOf(annotation: string, value: string, field: string): CniArg | undefined {
  if (annotation === EXTENSION_ANNOTATION) return ['CNI_MUTLINET_EXTENSION', value]
  if (!annotation.startsWith(ARGUMENT_ANNOTATIONS)) return undefined
  const parts = value.split('=')
  const [key, argument] = parts
  if (parts.length !== 2 || !key || argument === undefined) throw invalidField(field, 'must be key=value with one "="')
  return [checkedValue(field, key), argument]
}

/** Plugins split CNI_ARGS at every `;` and refuse all of it when a pair has a second `=`. */
function checkedValue(field: string, value: string): string {
  if (/[;=]/.test(value)) throw invalidField(field, 'must not contain ";" or "=": it becomes a CNI argument')
  if (/\p{Cc}/u.test(value)) throw invalidField(field, 'must not contain control characters')
  return value
}

function byKey([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1
}
