import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { cgroupMounts } from '../../src/host/cgroup/cgroup.ts'

/** The first of some files of a process's cgroup that is there: cgroup v1 and v2 name things differently. */
export function cgroupFile(pid: number, ...names: readonly string[]): string {
  const groups = readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => line.split(':')[2] ?? '')
  for (const name of names) {
    for (const mount of cgroupMounts()) {
      for (const group of new Set(groups)) {
        const path = join(mount, group, name)
        if (existsSync(path)) return readFileSync(path, 'utf8').trim()
      }
    }
  }
  throw new Error(`the cgroups of process ${pid} have no ${names.join(' or ')}`)
}

/** The cgroup in which a process's memory is counted: of that controller's hierarchy (v1), or the only one (v2). */
export function memoryCgroup(pid: number): string {
  const lines = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n')
  const groups = new Map(lines.map((line) => /^[0-9]+:([^:]*):(.*)$/.exec(line)?.slice(1) as [string, string]))
  return groups.get('memory') ?? groups.get('') ?? ''
}
