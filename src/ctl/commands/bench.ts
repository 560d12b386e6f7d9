import { randomBytes } from 'node:crypto'
import { UsageError } from '../../cli/args.ts'
import { CodedError } from '../../core/errors.ts'
import { numberOption } from '../args.ts'
import { BENCH_LABEL, type BenchOptions, removePods, runBench } from '../bench/bench.ts'
import { CriCalls } from '../bench/cri.ts'
import { showBench } from '../bench/report.ts'
import { defineCommand } from '../command.ts'

/** Beyond what the daemon gives RunPodSandbox. */
const MARGIN_MS = 30_000

export const command = defineCommand({
  usage: '[--pods N] [--concurrency N] [--handler NAME] [--image REF] [--pod-network] [--json]',
  description: `Runs real pods through the CRI socket, stops and removes each, and prints the 50th and 99th percentile of every call and of the steps of RunPodSandbox. By default the pods share the network of the node, which needs no CNI.

It removes all that it has made, also after Ctrl-C: then it begins no further pod, and waits for those that have begun. What an earlier bench could not remove is removed by --clean.

  sandboxerctl bench --pods 50 --concurrency 8
  sandboxerctl bench --pod-network --image docker.io/library/busybox:latest`,
  options: {
    pods: { type: 'string', value: 'N', description: 'how many pods (default: 20)' },
    concurrency: { type: 'string', value: 'N', description: 'how many at a time (default: 4)' },
    handler: { type: 'string', value: 'NAME', description: 'the runtime handler (default: that of the configuration)' },
    image: {
      type: 'string',
      value: 'REF',
      description: 'run a container of this image in each pod, with its own command; it must have been pulled',
    },
    'pod-network': { type: 'boolean', description: 'give each pod a network of its own, by CNI' },
    clean: { type: 'boolean', description: 'only remove what earlier benches have left' },
  },
  operands: [0, 0],
  async run({ options, out, signal, config }) {
    const { config: settings } = await config()
    const bench: BenchOptions = {
      id: randomBytes(4).toString('hex'),
      pods: countOption('--pods', options.pods, 20, 10_000),
      concurrency: countOption('--concurrency', options.concurrency, 4, 256),
      handler: options.handler ?? '',
      image: options.image,
      hasNetwork: options['pod-network'] ?? false,
    }
    const timeoutMs = settings.timeouts.runPodSandboxMs + MARGIN_MS
    using cri = new CriCalls({ socketPath: settings.cri.socket, timeoutMs })
    if (options.clean) {
      const left = await removePods(cri)
      for (const problem of left) out.note(problem)
      if (out.isJson) out.json({ left })
      return left.length === 0 ? 0 : 1
    }
    if (bench.image !== undefined && !(await cri.hasImage(bench.image))) {
      throw new CodedError('NotFound', `image ${bench.image} is not here: sandboxerctl pull ${bench.image}`)
    }
    const earlier = await cri.podsWith(BENCH_LABEL)
    if (earlier.length > 0) out.note(`${earlier.length} pods of other benches are here: --clean removes them`)
    const tellEnd = (): void => out.note('ends when the pods that have begun are removed; again Ctrl-C leaves them')
    signal.addEventListener('abort', tellEnd, { once: true })
    try {
      const result = await runBench(bench, { cri, now: () => performance.now() }, signal)
      showBench(out, bench, result)
      signal.throwIfAborted()
      return result.failed === 0 && result.left.length === 0 ? 0 : 1
    } finally {
      signal.removeEventListener('abort', tellEnd)
    }
  },
})

function countOption(option: string, text: string | undefined, byDefault: number, max: number): number {
  const count = numberOption(option, text, { byDefault, min: 1, max })
  if (!Number.isInteger(count)) throw new UsageError(`${option} ${text}: must be a whole number`)
  return count
}
