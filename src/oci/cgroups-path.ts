import { invalidField } from '../core/errors.ts'

const FIELD = 'config.linux.cgroup_parent'
/** Where the cgroups of pods without a parent of their own lie. */
export const DEFAULT_CGROUP_PARENT = '/sandboxerd'
const DEFAULT_SLICE = 'system.slice'
/** systemd allows `:` in a name; here it would separate the three parts of the path. Dashes are the levels. */
const SLICE_NAME = /^(?:-|[A-Za-z0-9_.\\]+(?:-[A-Za-z0-9_.\\]+)*)\.slice$/

export interface CgroupsPathInput {
  readonly driver: 'cgroupfs' | 'systemd'
  /** As the caller gave it; `''` asks for the default. */
  readonly cgroupParent: string
  readonly id: string
}

/**
 * `linux.cgroupsPath` of a container: `<parent>/<id>` with the cgroupfs driver, `<slice>:sandboxerd:<id>` with systemd.
 * For systemd the parent may be a slice (`kubepods-pod1.slice`) or the whole way to it
 * (`/kubepods.slice/kubepods-pod1.slice`), as the kubelet writes it; the name of a slice says where it is.
 *
 * @throws CodedError `InvalidArgument` naming `config.linux.cgroup_parent`, also when it is of the other driver's kind:
 * the two would make different trees, and the limits on the pod's cgroup would hold nothing.
 */
export function cgroupsPath(input: CgroupsPathInput): string {
  const parts = pathParts(input.cgroupParent)
  return input.driver === 'systemd' ? systemdPath(parts, input) : cgroupfsPath(parts, input)
}

function systemdPath(parts: readonly string[], input: CgroupsPathInput): string {
  if (!parts.every((part) => part.endsWith('.slice'))) {
    throw invalidField(FIELD, `must be a slice with the systemd cgroup driver: ${JSON.stringify(input.cgroupParent)}`)
  }
  const slice = parts.at(-1) ?? DEFAULT_SLICE
  if (!SLICE_NAME.test(slice)) throw invalidField(FIELD, `not a valid slice name: ${JSON.stringify(slice)}`)
  return `${slice}:sandboxerd:${input.id}`
}

function cgroupfsPath(parts: readonly string[], input: CgroupsPathInput): string {
  if (parts.at(-1)?.endsWith('.slice')) {
    throw invalidField(FIELD, `is a systemd slice, but the cgroup driver is cgroupfs: ${input.cgroupParent}`)
  }
  // Always absolute: runtimes disagree on what a relative path hangs under.
  const parent = parts.length === 0 ? DEFAULT_CGROUP_PARENT : `/${parts.join('/')}`
  return `${parent}/${input.id}`
}

function pathParts(cgroupParent: string): string[] {
  if (cgroupParent.length > 4096) throw invalidField(FIELD, 'longer than 4096 characters')
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\x00-\x1f\x7f]/.test(cgroupParent)) throw invalidField(FIELD, 'contains a control character')
  const parts = cgroupParent.split('/').filter((part) => part !== '')
  if (parts.some((part) => part === '.' || part === '..')) {
    throw invalidField(FIELD, `must not contain "." or "..": ${JSON.stringify(cgroupParent)}`)
  }
  return parts
}
