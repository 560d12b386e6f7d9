import { basename } from 'node:path'

/**
 * The cgroup driver of the daemons under test, and of what calls them: `SANDBOXERD_TEST_CGROUP_DRIVER` is `systemd` where
 * systemd is process 1 (as in scripts/test-in-vm.sh).
 */
export const CGROUP_DRIVER = process.env['SANDBOXERD_TEST_CGROUP_DRIVER'] === 'systemd' ? 'systemd' : 'cgroupfs'

const isSystemd = CGROUP_DRIVER === 'systemd'

/** The cgroup that holds all pods of a daemon under test. */
export function daemonParent(mark: string): string {
  return isSystemd ? `/sbt${mark}.slice` : `/sbt-${mark}`
}

/** The one of a pod in it, written as the kubelet does. */
export function podParent(parent: string, name: string): string {
  // A dash in the name of a slice is a level.
  return isSystemd ? `${parent}/${basename(parent, '.slice')}-${name.replaceAll('-', '_')}.slice` : `${parent}/${name}`
}

/** Where the kernel shows a container of the runtime handler, or a pod's pause; without a parent: where the default is. */
export function containerCgroup(parent: string, id: string, handler = 'crun'): string {
  if (!isSystemd) return `${parent === '' ? '/sandboxerd' : parent}/${id}`
  // crun makes another one in the scope.
  const below = handler.startsWith('crun') ? '/container' : ''
  return `${parent === '' ? '/system.slice' : parent}/sandboxerd-${id}.scope${below}`
}
