import { appendFile, chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** One execution of a fake plugin. */
export interface PluginRun {
  readonly type: string
  readonly command: string
  readonly containerId: string
  readonly netns: string
  readonly ifName: string
  readonly args: string
  /** The names of all its environment variables, sorted. */
  readonly envNames: readonly string[]
  readonly config: Record<string, unknown>
}

const RECORDER = `#!/bin/sh
here=$(dirname "$0")
type=$(basename "$0")
names=$(env | cut -d= -f1 | sort | tr '\\n' ' ')
printf '%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\n' "$type" "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$CNI_IFNAME" \\
  "$CNI_ARGS" "$names" "$(cat)" >> "$here/../runs"
answer="$here/../answers/$type.$CNI_COMMAND"
[ -f "$answer" ] || exit 0
cat "$answer"
exit "$(cat "$answer.code")"
`

/** Plugins that are shell scripts in a directory of their own. They write down each of their executions. */
export class FakePlugins implements AsyncDisposable {
  readonly #dir: string

  private constructor(dir: string) {
    this.#dir = dir
  }

  static async make(): Promise<FakePlugins> {
    const dir = await mkdtemp(join(tmpdir(), 'sbx-fake-cni-'))
    for (const name of ['bin', 'answers', 'conf']) await mkdir(join(dir, name))
    return new FakePlugins(dir)
  }

  get binDir(): string {
    return join(this.#dir, 'bin')
  }

  get confDir(): string {
    return join(this.#dir, 'conf')
  }

  path(name: string): string {
    return join(this.#dir, name)
  }

  /** Installs a plugin that records and answers VERSION with `versions`. */
  async addRecorder(type: string, versions: readonly string[]): Promise<void> {
    await this.addScript(type, RECORDER)
    await this.answer(type, 'VERSION', { cniVersion: '1.1.0', supportedVersions: versions })
  }

  async addScript(type: string, text: string): Promise<void> {
    await writeFile(join(this.binDir, type), text)
    await chmod(join(this.binDir, type), 0o755)
  }

  async removePlugin(type: string): Promise<void> {
    await rm(join(this.binDir, type))
  }

  /** What a recorder prints on a command from now on, and its exit code. */
  async answer(type: string, command: string, stdout: unknown, exitCode = 0): Promise<void> {
    const path = join(this.#dir, 'answers', `${type}.${command}`)
    await writeFile(path, typeof stdout === 'string' ? stdout : JSON.stringify(stdout))
    await writeFile(`${path}.code`, `${exitCode}`)
  }

  async configure(file: string, config: object): Promise<void> {
    await writeFile(join(this.confDir, file), JSON.stringify(config))
  }

  /** What ran so far beside VERSION, in order. */
  async runs(): Promise<PluginRun[]> {
    await appendFile(join(this.#dir, 'runs'), '')
    const lines = (await readFile(join(this.#dir, 'runs'), 'utf8')).split('\n').filter((line) => line !== '')
    return lines.map(parseRun).filter((run) => run.command !== 'VERSION')
  }

  /** How often VERSION was asked. */
  async versionRuns(): Promise<number> {
    return (await readFile(join(this.#dir, 'runs'), 'utf8')).split('\n').filter((line) => line.includes('\tVERSION\t'))
      .length
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#dir, { recursive: true })
  }
}

function parseRun(line: string): PluginRun {
  const [type = '', command = '', containerId = '', netns = '', ifName = '', args = '', names = '', stdin = ''] =
    line.split('\t')
  const config = JSON.parse(stdin) as Record<string, unknown>
  return { type, command, containerId, netns, ifName, args, envNames: names.trim().split(' '), config }
}
