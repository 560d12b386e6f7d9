import { posix } from 'node:path'
import type { ContainerSpecInput, PodFiles } from './container-input.ts'
import type { Mount } from './spec.ts'

/** What a container sees that mounts nothing, in the order to be mounted. */
const STANDARD_MOUNTS: readonly Mount[] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
]

/**
 * All mounts of a container in the order to be mounted: the standard ones that nothing else covers, then the pod's files,
 * the caller's and those of CDI devices, a directory before what lies in it.
 */
export function containerMounts(input: ContainerSpecInput): Mount[] {
  const readonlyRoot = input.config.linux?.security_context?.readonly_rootfs ?? false
  const asked = [...input.mounts, ...input.cdi.mounts]
  const taken = new Set(asked.map(({ destination }) => posix.resolve('/', destination)))
  const files = podFileMounts(input.podFiles, readonlyRoot).filter(({ destination }) => !taken.has(destination))
  const standard = [...STANDARD_MOUNTS, ...sysMounts(input)].filter(({ destination }) => !isCovered(destination, asked))
  return [...standard, ...byDepth([...files, ...asked])]
}

/**
 * How mounts of the node reach the container's root: what the mount that goes furthest needs, undefined where none does.
 */
export function rootfsPropagation(mounts: readonly Mount[]): 'rslave' | 'rshared' | undefined {
  const has = (option: string): boolean => mounts.some(({ options }) => options.includes(option))
  if (has('rshared')) return 'rshared'
  return has('rslave') ? 'rslave' : undefined
}

/** A mount on a directory hides what was mounted below it before. */
function isCovered(destination: string, mounts: readonly Mount[]): boolean {
  return mounts.some((mount) => `${destination}/`.startsWith(`${posix.resolve('/', mount.destination)}/`))
}

function sysMounts({ config }: ContainerSpecInput): Mount[] {
  const access = config.linux?.security_context?.privileged ? 'rw' : 'ro'
  const sys: Mount = {
    destination: '/sys',
    type: 'sysfs',
    source: 'sysfs',
    options: ['nosuid', 'noexec', 'nodev', access],
  }
  const cgroup: Mount = {
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    options: ['nosuid', 'noexec', 'nodev', 'relatime', access],
  }
  return [sys, cgroup]
}

function podFileMounts(files: PodFiles, readonlyRoot: boolean): Mount[] {
  const access = readonlyRoot ? 'ro' : 'rw'
  const bind = (destination: string, source: string, option: string): Mount[] =>
    source === '' ? [] : [{ destination, type: 'bind', source, options: ['rbind', 'rprivate', option] }]
  return [
    ...bind('/etc/hostname', files.hostname, access),
    ...bind('/etc/hosts', files.hosts, access),
    ...bind('/etc/resolv.conf', files.resolvConf, access),
    ...bind('/dev/shm', files.shm, 'rw'),
  ]
}

function byDepth(mounts: readonly Mount[]): Mount[] {
  const depth = ({ destination }: Mount): number => posix.resolve('/', destination).split('/').length
  return mounts.toSorted((one, other) => depth(one) - depth(other))
}
