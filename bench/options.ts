import { parseArgs } from 'node:util'

/** How pods reach the network: a bridge, a bridge that masquerades (iptables), or the node's own network. */
export type NetworkMode = 'bridge' | 'masq' | 'host'

export interface BenchOptions {
  readonly networks: readonly NetworkMode[]
  readonly concurrencies: readonly number[]
  /** Rounds at concurrency 1; with more pods in a round there are fewer of them. */
  readonly rounds: number
  /** How many pods there are when the daemon is killed; empty: that part is left out. */
  readonly killedWith: readonly number[]
  readonly reads: boolean
  /** Whether to measure containers, too, and how many whole pods with a container each. */
  readonly containers: boolean
  readonly cycles: number
  /** Whether to measure sessions, too, and how much goes through each way in one of them. */
  readonly streaming: boolean
  readonly streamedMib: number
  /** Whether to measure pods through the sandboxer API; nothing else is measured then. */
  readonly sandboxer: boolean
  /** Whether to measure pods alone, too. */
  readonly pods: boolean
  readonly jsonFile: string
  /** An empty text leaves containerd out. */
  readonly containerd: string
  /** The OCI runtime of containerd's pods, if not the one of all others; an empty text leaves it to containerd. */
  readonly containerdRuntime: string
  /** Another build of the daemon to compare with: its main.js, or an empty text. */
  readonly other: string
  readonly runtime: string
  readonly conmon: string
  readonly pause: string
  readonly pluginDir: string
  /** Arguments of node before the daemon's own, such as --cpu-prof. */
  readonly nodeArgs: readonly string[]
}

export const USAGE = `usage: bench/run.sh [OPTION...]
Runs pods through sandboxerd (shim and pinned), through containerd, and by bare commands (the floor), in turns, and prints
how long each took and how they compare.

  --network LIST       bridge,masq,host                         default: all of them
  --concurrency LIST   how many pods at a time                  default: 1,8,32
  --rounds N           rounds at concurrency 1                  default: 40
  --killed-with LIST   pods at kill -9; "none" leaves it out    default: 20,200
  --no-reads           leave out the reads during load
  --no-containers      leave out containers
  --cycles N           whole pods with a container, 8 at a time   default: 80
  --only-containers    leave out everything else
  --no-streaming       leave out exec and port-forward
  --mib N              how much goes through each way             default: 256
  --only-streaming     leave out everything else
  --only-sandboxer     pods through the sandboxer API: behind containerd, and behind another sandboxerd
  --quick              --network bridge,host --concurrency 1 --killed-with none --no-reads --no-containers --no-streaming
  --json FILE          write all numbers there, too

In the environment:
  BENCH_CONTAINERD=PATH          the containerd to compare with, "none" for none; default: the one on PATH, if any
  BENCH_CONTAINERD_RUNTIME=PATH  its OCI runtime, where it does not get on with that of the others; with --only-sandboxer
                                 its own default, runc
  BENCH_OTHER=DIR/dist/main.js   another build of sandboxerd to compare with
  BENCH_RUNTIME=/usr/bin/crun  BENCH_CONMON=/usr/bin/conmon  BENCH_PAUSE=/usr/bin/catatonit  BENCH_PLUGINS=/usr/lib/cni
  BENCH_NODE_ARGS                arguments of node for the daemon, such as "--cpu-prof --cpu-prof-dir=/tmp/prof"`

const NETWORKS: readonly NetworkMode[] = ['bridge', 'masq', 'host']

/** Reads the command line and the environment. Returns null when help is asked for. @throws Error for what it cannot be. */
export function parseOptions(
  args: string[],
  env: NodeJS.ProcessEnv,
  findOnPath: (name: string) => string,
): BenchOptions | null {
  const { values } = parseArgs({
    args,
    options: {
      network: { type: 'string' },
      concurrency: { type: 'string' },
      rounds: { type: 'string', default: '40' },
      'killed-with': { type: 'string' },
      'no-reads': { type: 'boolean', default: false },
      'no-containers': { type: 'boolean', default: false },
      'only-containers': { type: 'boolean', default: false },
      'no-streaming': { type: 'boolean', default: false },
      'only-streaming': { type: 'boolean', default: false },
      'only-sandboxer': { type: 'boolean', default: false },
      mib: { type: 'string', default: '256' },
      cycles: { type: 'string', default: '80' },
      quick: { type: 'boolean', default: false },
      json: { type: 'string', default: '' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) return null
  const killedWith = values['killed-with'] ?? (values.quick ? 'none' : '20,200')
  const containerd = env['BENCH_CONTAINERD'] ?? findOnPath('containerd')
  const runtime = env['BENCH_RUNTIME'] ?? '/usr/bin/crun'
  const sandboxer = values['only-sandboxer']
  return {
    networks: (values.network ?? (values.quick ? 'bridge,host' : NETWORKS.join(','))).split(',').map(networkMode),
    concurrencies: numbers(values.concurrency ?? (values.quick ? '1' : '1,8,32'), 'concurrency'),
    rounds: numbers(values.rounds, 'rounds')[0] ?? 1,
    killedWith: killedWith === 'none' ? [] : numbers(killedWith, 'killed-with').sort((a, b) => a - b),
    reads: !values['no-reads'] && !values.quick,
    containers:
      values['only-containers'] || !(values['no-containers'] || values['only-streaming'] || sandboxer || values.quick),
    streaming:
      values['only-streaming'] || !(values['no-streaming'] || values['only-containers'] || sandboxer || values.quick),
    pods: !(values['only-containers'] || values['only-streaming'] || sandboxer),
    sandboxer,
    streamedMib: numbers(values.mib, 'mib')[0] ?? 1,
    cycles: numbers(values.cycles, 'cycles')[0] ?? 1,
    jsonFile: values.json,
    containerd: containerd === 'none' ? '' : containerd,
    containerdRuntime: env['BENCH_CONTAINERD_RUNTIME'] ?? (sandboxer ? '' : runtime),
    other: env['BENCH_OTHER'] ?? '',
    runtime,
    conmon: env['BENCH_CONMON'] ?? '/usr/bin/conmon',
    pause: env['BENCH_PAUSE'] ?? '/usr/bin/catatonit',
    pluginDir: env['BENCH_PLUGINS'] ?? '/usr/lib/cni',
    nodeArgs: (env['BENCH_NODE_ARGS'] ?? '').split(' ').filter((arg) => arg !== ''),
  }
}

function networkMode(text: string): NetworkMode {
  const found = NETWORKS.find((mode) => mode === text)
  if (!found) throw new Error(`--network: ${text} is none of ${NETWORKS.join(', ')}`)
  return found
}

function numbers(text: string, option: string): number[] {
  return text.split(',').map((part) => {
    const value = Number(part)
    if (!Number.isInteger(value) || value < 1) throw new Error(`--${option}: ${part} is not a whole number above 0`)
    return value
  })
}
