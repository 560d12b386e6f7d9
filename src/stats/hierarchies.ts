/** Where a controller's files are, and in which of the two forms. */
export interface Controller {
  readonly version: 1 | 2
  /** The directory in which the cgroup paths begin. */
  readonly mount: string
}

/** Where each controller is mounted. On hybrid machines some are v1, others v2. Null: nowhere. */
export interface Hierarchies {
  /** CPU time used. */
  readonly cpuacct: Controller | null
  /** Quotas and throttling. */
  readonly cpu: Controller | null
  readonly memory: Controller | null
  readonly pids: Controller | null
  readonly blkio: Controller | null
  readonly hugetlb: Controller | null
  /** The v2 hierarchy, which has pressure also where it has no controllers. */
  readonly unified: string | null
}

interface Mount {
  readonly path: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
}

/** Finds the controllers in the text of `/proc/self/mountinfo`. */
export function findHierarchies(mountinfo: string): Hierarchies {
  const mounts = parseMounts(mountinfo)
  const unified = mounts.find(({ type }) => type === 'cgroup2')?.path ?? null
  const find = (name: string): Controller | null => {
    const v1 = mounts.find(({ type, options }) => type === 'cgroup' && options.includes(name))
    if (v1) return { version: 1, mount: v1.path }
    return unified === null ? null : { version: 2, mount: unified }
  }
  return {
    cpuacct: find('cpuacct'),
    cpu: find('cpu'),
    memory: find('memory'),
    pids: find('pids'),
    blkio: find('blkio'),
    hugetlb: find('hugetlb'),
    unified,
  }
}

/** The source of the file system that a path lies on, as `/dev/sda1`; `''` when it cannot be told. */
export function deviceOf(mountinfo: string, path: string): string {
  let best: Mount | undefined
  for (const mount of parseMounts(mountinfo)) {
    const isAbove = mount.path === '/' || path === mount.path || path.startsWith(`${mount.path}/`)
    // Of several at one place the last is on top.
    if (isAbove && mount.path.length >= (best?.path.length ?? 0)) best = mount
  }
  return best?.source ?? ''
}

function parseMounts(mountinfo: string): Mount[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ')
    const path = unescaped(before.split(' ')[4] ?? '')
    const [type = '', source = '', options = ''] = after.split(' ')
    return path === '' ? [] : [{ path, type, source: unescaped(source), options: options.split(',') }]
  })
}

/** Blanks and backslashes in paths are octal: proc(5). */
function unescaped(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
