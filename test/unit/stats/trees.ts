import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Machine } from '../../../src/stats/cgroup-reader.ts'
import { findHierarchies } from '../../../src/stats/hierarchies.ts'
import { SmallFiles } from '../../../src/stats/small-files.ts'

/** The cgroup that all trees hold. */
export const PATH = '/kubepods/pod1/c1'

const CPU_STAT_V2 = `usage_usec 1500000
user_usec 1000000
system_usec 500000
nr_periods 10
nr_throttled 4
throttled_usec 250000
`
const MEMORY_STAT_V2 = `anon 4194304
file 8388608
kernel 1048576
kernel_stack 32768
shmem 0
file_mapped 2097152
inactive_anon 4096
active_anon 4190208
inactive_file 3145728
active_file 5242880
slab 65536
pgfault 1234
pgmajfault 12
`
const MEMORY_STAT_V1 = `cache 1
rss 2
mapped_file 3
pgfault 200
pgmajfault 5
inactive_file 4
active_file 5
hierarchical_memory_limit 67108864
total_cache 8388608
total_rss 4194304
total_mapped_file 2097152
total_swap 524288
total_pgfault 1234
total_pgmajfault 12
total_inactive_file 3145728
total_active_file 5242880
`
const pressure = (some: number, full: number) =>
  `some avg10=1.50 avg60=0.75 avg300=0.10 total=${some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=${full}\n`

const V2_FILES: Readonly<Record<string, string>> = {
  'cgroup.events': 'populated 1\nfrozen 0\n',
  'cgroup.procs': '11\n12\n',
  'nested/cgroup.procs': '13\n',
  'cpu.stat': CPU_STAT_V2,
  'cpu.pressure': pressure(1000, 0),
  'memory.current': '16777216\n',
  'memory.max': '67108864\n',
  'memory.peak': '20971520\n',
  'memory.stat': MEMORY_STAT_V2,
  'memory.events': 'low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n',
  'memory.swap.current': '524288\n',
  'memory.swap.max': '1048576\n',
  'memory.pressure': pressure(2000, 500),
  'io.pressure': pressure(3000, 700),
  'io.stat': '8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n253:9 rbytes=5 wbytes=6 rios=7 wios=8\n1:0 \n',
  'pids.current': '9\n',
  'pids.max': '100\n',
  'hugetlb.2MB.current': '2097152\n',
}

const V1_FILES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'cpu,cpuacct': {
    'cpu.stat': 'nr_periods 10\nnr_throttled 4\nthrottled_time 250000000\n',
    'cpuacct.usage': '1500000000\n',
    'cpuacct.stat': 'user 100\nsystem 50\n',
  },
  memory: {
    'memory.usage_in_bytes': '16777216\n',
    'memory.limit_in_bytes': '67108864\n',
    'memory.memsw.limit_in_bytes': '68157440\n',
    'memory.max_usage_in_bytes': '20971520\n',
    'memory.kmem.usage_in_bytes': '1048576\n',
    'memory.failcnt': '7\n',
    'memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 1\n',
    'memory.stat': MEMORY_STAT_V1,
  },
  pids: {
    'pids.current': '9\n',
    'pids.max': 'max\n',
    'cgroup.procs': '11\n12\n',
    'nested/cgroup.procs': '13\n',
  },
  blkio: {
    'blkio.throttle.io_service_bytes_recursive':
      '8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Total 12288\nTotal 12288\n',
    'blkio.throttle.io_serviced_recursive': '8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n',
  },
  hugetlb: {
    'hugetlb.2MB.usage_in_bytes': '2097152\n',
    'hugetlb.2MB.max_usage_in_bytes': '4194304\n',
  },
}

/** A machine whose cgroupfs, /proc and /sys are files below a directory. */
export function makeMachine(root: string, kind: 'v1' | 'hybrid' | 'v2'): Machine {
  const lines = kind === 'v2' ? [mountLine(root, 'cgroup2', '')] : v1Tree(root)
  if (kind === 'v2') writeFiles(join(root, PATH), V2_FILES)
  if (kind === 'hybrid') {
    lines.push(mountLine(`${root}/unified`, 'cgroup2', ''))
    const { 'cgroup.events': events = '', 'cpu.pressure': cpu = '' } = V2_FILES
    writeFiles(join(root, 'unified', PATH), { 'cgroup.events': events, 'cpu.pressure': cpu })
  }
  const proc = join(root, 'proc')
  writeFiles(proc, { '11/limits': 'Max processes  1 2 processes\nMax open files            1024   4096   files\n' })
  mkdirSync(join(proc, '11/fd'), { recursive: true })
  symlinkSync('socket:[1]', join(proc, '11/fd/0'))
  symlinkSync('/dev/null', join(proc, '11/fd/1'))
  mkdirSync(join(root, 'sys/dev/block'), { recursive: true })
  symlinkSync('../../devices/pci0/block/sda', join(root, 'sys/dev/block/8:0'))
  const hierarchies = findHierarchies(lines.join('\n'))
  return { files: new SmallFiles(), hierarchies, hugePageSizes: ['2MB'], proc, sys: join(root, 'sys') }
}

function v1Tree(root: string): string[] {
  return Object.entries(V1_FILES).map(([controllers, files]) => {
    writeFiles(join(root, controllers, PATH), files)
    return mountLine(join(root, controllers), 'cgroup', controllers)
  })
}

function writeFiles(directory: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true })
    writeFileSync(join(directory, name), text)
  }
}

function mountLine(path: string, type: string, options: string): string {
  return `32 31 0:29 / ${path} rw,relatime shared:9 - ${type} ${type} rw,${options}`
}
