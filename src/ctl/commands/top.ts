import type { PodUsage } from '../../admin/api.ts'
import { sleep } from '../../core/deadline.ts'
import { numberOption } from '../args.ts'
import { formatBytes } from '../bytes.ts'
import { defineCommand } from '../command.ts'
import { shortId } from '../format.ts'
import type { Output } from '../output.ts'
import { UsageRates } from '../usage-rates.ts'

/** Rates need two readings, which the daemon takes so far apart at least. */
const BETWEEN_MS = 1100
const MAX_READS = 4

export const command = defineCommand({
  usage: '[--once] [--interval SECONDS] [--json]',
  description: `Shows what each running pod uses: processor, memory, processes and network, those that use the most processor first. On a terminal it is drawn anew until it is interrupted; elsewhere, with --once and with --json it is printed once, when there are two readings to tell rates from.`,
  options: {
    once: { type: 'boolean', description: 'print one table, then exit' },
    interval: { type: 'string', value: 'SECONDS', description: 'how often it is drawn (default 2)' },
  },
  operands: [0, 0],
  async run({ out, options, admin, signal }) {
    const seconds = numberOption('--interval', options.interval, { byDefault: 2, min: 0.5, max: 3600 })
    const client = await admin()
    const rates = new UsageRates()
    const read = async () => rates.of(await client.call<readonly PodUsage[]>('/v1/usage'))
    if (!out.isJson && !options.once && out.isTerminal) return live(out, read, { periodMs: seconds * 1000, signal })
    const pods = await readOnce(read, signal)
    if (out.isJson) out.json(pods)
    else out.table(COLUMNS, pods.map(rowOf))
    return 0
  },
})

type Reading = ReturnType<UsageRates['of']>[number]
type Read = () => Promise<readonly Reading[]>

/** Reads until there are rates, or for as long as that may take on a busy node. */
async function readOnce(read: Read, signal: AbortSignal): Promise<readonly Reading[]> {
  let pods = await read()
  for (let attempt = 0; attempt < MAX_READS && pods.some(lacksRates); attempt++) {
    await sleep(BETWEEN_MS, signal)
    pods = await read()
  }
  return pods
}

function lacksRates({ cpuCores, network, rxBytesPerSecond }: Reading): boolean {
  return cpuCores === null || (network !== null && rxBytesPerSecond === null)
}

const COLUMNS = [
  { title: 'ID' },
  { title: 'NAMESPACE' },
  { title: 'NAME' },
  { title: 'CPU', right: true },
  { title: 'MEMORY', right: true },
  { title: 'PIDS', right: true, drop: 1 },
  { title: 'RX/s', right: true, drop: 3 },
  { title: 'TX/s', right: true, drop: 2 },
]

function rowOf({
  id,
  namespace,
  name,
  cpuCores,
  memoryBytes,
  pids,
  rxBytesPerSecond,
  txBytesPerSecond,
}: Reading): string[] {
  return [
    shortId(id),
    namespace,
    name,
    cpuCores === null ? '-' : `${(cpuCores * 100).toFixed(1)} %`,
    bytesText(memoryBytes),
    pids === null ? '-' : String(pids),
    bytesText(rxBytesPerSecond),
    bytesText(txBytesPerSecond),
  ]
}

function bytesText(bytes: number | null): string {
  return bytes === null ? '-' : formatBytes(bytes)
}

/** Draws over what was drawn before, on a screen of its own, which is left when it ends. */
async function live(
  out: Output,
  read: Read,
  { periodMs, signal }: { readonly periodMs: number; readonly signal: AbortSignal },
): Promise<number> {
  out.raw('\u001b[?1049h\u001b[?25l')
  try {
    for (;;) {
      const pods = await read()
      const { columns, rows } = out.size() ?? { columns: 80, rows: 24 }
      const shown = pods.slice(0, Math.max(1, rows - 3))
      const head = `${new Date().toISOString()}  ${pods.length} pods`
      const lines = [head.slice(0, columns), '', ...out.tableLines(COLUMNS, shown.map(rowOf), columns)]
      out.raw(`\u001b[H${lines.map((line) => `${line}\u001b[K`).join('\r\n')}\u001b[J`)
      await sleep(periodMs, signal)
    }
  } finally {
    out.raw('\u001b[?25h\u001b[?1049l')
  }
}
