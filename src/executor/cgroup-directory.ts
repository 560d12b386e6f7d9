import type { ContainerRecord } from './types.ts'

/** The directory of the container's cgroup below each hierarchy. */
export function cgroupDirectory(record: ContainerRecord): string {
  if (!record.runtime.systemdCgroup) return record.cgroupsPath
  const [slice = '', prefix = '', name = ''] = record.cgroupsPath.split(':')
  // a-b.slice lies in a.slice (systemd.slice(5)).
  const parts = slice.replace(/\.slice$/, '').split('-')
  const slices = parts.map((_, index) => `${parts.slice(0, index + 1).join('-')}.slice`)
  return `/${[...slices, `${prefix}-${name}.scope`].join('/')}`
}
