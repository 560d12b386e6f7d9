import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { Config } from '../../config/config.ts'
import { parseConfig } from '../../config/parse.ts'
import { errorMessage } from '../../core/errors.ts'
import { numberOption } from '../args.ts'
import { formatBytes } from '../bytes.ts'
import { type Call, defineCommand } from '../command.ts'
import { styled } from '../style.ts'
import { collectParts, type Part, type PartReport } from '../support/collect.ts'
import { daemonParts } from '../support/daemon-parts.ts'
import { nodeParts } from '../support/node-parts.ts'
import { processPart } from '../support/process-part.ts'
import { redactedText } from '../support/redact.ts'
import { tarGz } from '../support/tar.ts'
import { writeBundle } from '../support/write-bundle.ts'

const MAX_PART_BYTES = 8 * 1024 * 1024
const DEFAULT_SECONDS = 20

export const command = defineCommand({
  usage: '[--output FILE] [--timeout SECONDS] [--json]',
  description: `Writes what is known of the daemon and its node into one .tar.gz that only its owner can read: versions, configuration, status, pods, ledger, sandboxers, metrics, what doctor finds, the end of the journal, and mounts, namespaces, addresses and cgroups.

It works without the daemon, and with one that hangs: each part has a time limit, and one that fails leaves a note of why. No environment and no command line of a process is read; what looks like a password, a token or a key is replaced by [redacted]. Names, addresses and labels of pods are in it: look at it before it leaves your hands.`,
  options: {
    output: { type: 'string', short: 'o', value: 'FILE', description: 'write FILE, which must not exist yet' },
    timeout: { type: 'string', value: 'SECONDS', description: 'what one part may take (default: 20)' },
  },
  operands: [0, 0],
  async run(call) {
    const { options, out, signal } = call
    const limit = { byDefault: DEFAULT_SECONDS, min: 1, max: 600 }
    const timeoutMs = numberOption('--timeout', options.timeout, limit) * 1000
    const { config, source, problem } = await usableConfig(call)
    const socketPath = await call.admin().then(
      (admin) => admin.socketPath,
      () => config.admin.socket,
    )
    const parts: Part[] = [
      { name: 'config.json', collect: async () => ({ source, problem, config }) },
      ...daemonParts(config, { socketPath, timeoutMs }),
      processPart(join(config.root, 'lock')),
      ...nodeParts(config),
    ]
    if (!out.isJson) out.note(`collecting ${parts.length} parts, for ${timeoutMs / 1000} s at most`)
    const { files, reports } = await collectParts(parts, { timeoutMs, maxBytes: MAX_PART_BYTES }, signal)
    const now = new Date()
    const about = { version: await version(), createdAt: now.toISOString(), node: hostname(), parts: reports }
    const name = `sandboxerd-support-${hostname()}-${now.toISOString().replaceAll(/[-:]|\.\d+/g, '')}`
    const manifest = { path: 'bundle.json', content: Buffer.from(`${JSON.stringify(about, undefined, 2)}\n`) }
    const inDirectory = [manifest, ...files].map(({ path, content }) => ({
      path: `sandboxerd-support/${path}`,
      content,
    }))
    const archive = await tarGz(inDirectory, now.getTime())
    const file = options.output ?? `${name}.tar.gz`
    await writeBundle(file, archive)
    if (out.isJson) out.json({ file, sizeBytes: archive.length, parts: reports })
    else showBundle(call, file, archive.length, reports)
    return 0
  },
})

function showBundle({ out }: Call, file: string, sizeBytes: number, reports: readonly PartReport[]): void {
  const byProblem = new Map<string, string[]>()
  for (const { name, problem } of reports) {
    if (problem !== null) byProblem.set(problem, [...(byProblem.get(problem) ?? []), name])
  }
  for (const [problem, names] of byProblem) out.line(styled('yellow', names.join(', ')), `: ${problem}`)
  out.line(`${file}: ${reports.length} parts, ${formatBytes(sizeBytes)}`)
}

/** The configuration, or the defaults where it cannot be read: then most of what is asked for lies where they say. */
async function usableConfig(
  call: Call,
): Promise<{ readonly config: Config; readonly source: string; readonly problem: string | null }> {
  try {
    const { config, file } = await call.config()
    return { config, source: file ?? 'embedded defaults', problem: null }
  } catch (error) {
    // What follows the first line may quote the file.
    const [problem = ''] = redactedText(errorMessage(error)).split('\n', 1)
    return { config: parseConfig('', 'embedded defaults'), source: 'embedded defaults', problem }
  }
}

async function version(): Promise<string> {
  const text = await readFile(new URL('../../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}
