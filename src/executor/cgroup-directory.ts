import { basename } from 'node:path'
import type { ContainerRecord, TaskRecord } from './types.ts'

/** The directory of the container's cgroup below each hierarchy. */
export function cgroupDirectory(record: Pick<ContainerRecord, 'runtime' | 'cgroupsPath'>): string {
  return record.runtime.systemdCgroup ? scopeDirectory(record.cgroupsPath) : record.cgroupsPath
}

/** The same of a container that a Task service runs; on this node there need not be any. */
export function taskCgroupDirectory({ cgroupsPath }: Pick<TaskRecord, 'cgroupsPath'>): string {
  return cgroupsPath.startsWith('/') ? cgroupsPath : scopeDirectory(cgroupsPath)
}

function scopeDirectory(cgroupsPath: string): string {
  const [slice = '', prefix = '', name = ''] = cgroupsPath.split(':')
  // a-b.slice lies in a.slice (systemd.slice(5)).
  // The root slice is `-.slice`.
  const parts = slice
    .replace(/\.slice$/, '')
    .split('-')
    .filter((part) => part !== '')
  const slices = parts.map((_, index) => `${parts.slice(0, index + 1).join('-')}.slice`)
  return `/${[...slices, `${prefix}-${name}.scope`].join('/')}`
}

/**
 * The directory in which the container's limits are, and what hits them is counted. On v2, crun makes one below the scope
 * that it has systemd make, since systemd would set those of the scope back.
 */
export function limitsDirectory(record: ContainerRecord, isCgroupV2: boolean): string {
  const directory = cgroupDirectory(record)
  const { path, systemdCgroup } = record.runtime
  return isCgroupV2 && systemdCgroup && basename(path) === 'crun' ? `${directory}/container` : directory
}
