import { CodedError, invalidField } from '../core/errors.ts'
import type { ContainerConfig__Output } from '../generated/runtime/v1/ContainerConfig.ts'
import type { HostPath, HostPathRequest } from '../host/host-paths.ts'
import { type ContainerEdits, NO_EDITS } from '../oci/container-input.ts'
import { type CdiEdits, isQualifiedName } from './cdi-spec.ts'
import { resolveEdits } from './edits.ts'
import { readSpecFiles, type SpecFiles } from './spec-files.ts'

const ANNOTATION_PREFIX = 'cdi.k8s.io/'
const MAX_DEVICES = 1000

export interface CdiDeps {
  /** Looks at paths of the node, links followed. One answer for each request. */
  readonly hostPaths: (requests: readonly HostPathRequest[]) => Promise<readonly HostPath[]>
}

/** The CDI devices of this node, as the files in `specDirs` describe them at the moment. */
export class CdiDevices {
  readonly #specDirs: readonly string[]
  readonly #deps: CdiDeps

  /** @param options.specDirs the last one has the highest priority. */
  constructor(options: { readonly specDirs: readonly string[] }, deps: CdiDeps) {
    this.#specDirs = options.specDirs
    this.#deps = deps
  }

  /**
   * What the devices that a container asks for change in it. Reads no file for a container that asks for none.
   * @throws CodedError `InvalidArgument` for a malformed name, `FailedPrecondition` naming a device that is not
   * available, with what stands in the way.
   */
  async resolve(config: ContainerConfig__Output): Promise<ContainerEdits> {
    const names = requestedDevices(config)
    if (names.length === 0) return NO_EDITS
    const files = await readSpecFiles(this.#specDirs)
    const edits: CdiEdits[] = []
    // What a spec says for all of its devices counts once.
    const seen = new Set<CdiEdits>()
    for (const name of names) {
      for (const found of this.#find(name, files)) {
        if (!seen.has(found)) edits.push(found)
        seen.add(found)
      }
    }
    return resolveEdits(edits, this.#deps)
  }

  #find(name: string, { byPriority, problems }: SpecFiles): CdiEdits[] {
    const [kind = '', deviceName = ''] = name.split('=', 2)
    for (const specs of byPriority) {
      const found = specs
        .filter((spec) => spec.kind === kind)
        .flatMap((spec) =>
          spec.devices.filter((device) => device.name === deviceName).map((device) => [spec, device] as const),
        )
      const [first] = found
      if (found.length > 1) throw unavailable(name, 'several specs of one directory describe it')
      if (first === undefined) continue
      const [spec, device] = first
      return spec.containerEdits === undefined ? [device.containerEdits] : [spec.containerEdits, device.containerEdits]
    }
    const why = [`no spec in ${this.#specDirs.join(', ')} describes it`, ...problems.map((line) => `not read: ${line}`)]
    throw unavailable(name, why.join('; ').slice(0, 2000))
  }
}

/**
 * The names of the CDI devices in a container's configuration, each once: `CDI_devices`, and the older annotations
 * `cdi.k8s.io/…` of the container (not of its pod, whose author may not choose devices).
 *
 * @throws CodedError `InvalidArgument` naming the field.
 */
function requestedDevices(config: ContainerConfig__Output): string[] {
  const names = new Set<string>()
  const add = (field: string, name: string): void => {
    if (!isQualifiedName(name)) throw invalidField(field, `not like vendor.com/class=device: ${name.slice(0, 256)}`)
    names.add(name)
  }
  for (const [at, { name }] of config.CDI_devices.entries()) add(`config.CDI_devices[${at}].name`, name)
  for (const [key, value] of Object.entries(config.annotations)) {
    if (!key.startsWith(ANNOTATION_PREFIX)) continue
    for (const name of value.split(',')) add(`config.annotations[${JSON.stringify(key.slice(0, 256))}]`, name)
  }
  if (names.size > MAX_DEVICES) throw invalidField('config.CDI_devices', `more than ${MAX_DEVICES} devices`)
  return [...names]
}

function unavailable(name: string, why: string): CodedError {
  return new CodedError('FailedPrecondition', `use CDI device ${name}: ${why}`)
}
