import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError, errorMessage } from '../../core/errors.ts'
import type { ProtoGrpcType } from '../../generated/shim.ts'
import { readTextIfAny } from '../../host/files.ts'
import { ExecError, expectSuccess, type RunProgram } from '../../host/programs/outcome.ts'
import { parseTaskEndpoint } from '../task/task-address.ts'
import type { TaskEndpoint } from '../types.ts'
import type { ShimRecord, TaskOptions } from './types.ts'

/** Where containerd keeps it, too. */
const BOOTSTRAP_FILE = 'bootstrap.json'
/** The shim opens it for its log; as a file it never makes the shim wait for a reader. */
const LOG_FILE = 'log'
const LOG_TAIL_CHARS = 1000
/** Shims since 2.3 do not use it, those before have it run for each event; theirs are to go nowhere. */
const PUBLISH_BINARY = '/bin/true'
/** What a shim says that is too new for being started without parameters. */
const WANTS_PARAMETERS = /bootstrap|deprecated API/i
/** The newest version of the shim API (not of its Task service) that is spoken. */
const MAX_SHIM_VERSION = '2'

export interface BootstrapOptions {
  /** For the shim's own environment. */
  readonly searchPath: string
  readonly timeoutMs: number
}

export interface BootstrapDeps {
  readonly run: RunProgram
  readonly messages: ProtoGrpcType
}

/**
 * Starts a shim and returns where its Task service is, which is also written down in the bundle directory. The directory
 * holds config.json, of which shims read the annotations. A shim of the same group that runs already is returned as it is.
 *
 * @throws CodedError `Internal` with what the shim said, `FailedPrecondition` when it speaks what is not spoken here.
 * There may be a process then.
 */
export async function bootstrapShim(
  record: ShimRecord,
  options: BootstrapOptions,
  deps: BootstrapDeps,
  signal: AbortSignal,
): Promise<TaskEndpoint> {
  await writeFile(join(record.bundleDir, LOG_FILE), '', { mode: 0o600 })
  const output = await start(record, options, deps, signal)
  const endpoint = parseBootstrapOutput(output, deps.messages)
  // What cannot be spoken to is told now, and not by the first container.
  parseTaskEndpoint(endpoint)
  // Renamed to its place, but nobody waits for the disk: after a power cut there is no shim.
  const file = join(record.bundleDir, BOOTSTRAP_FILE)
  await writeFile(`${file}.tmp`, JSON.stringify(endpoint), { mode: 0o600 })
  await rename(`${file}.tmp`, file)
  return endpoint
}

/** What {@link bootstrapShim} wrote down, or null. */
export async function readBootstrap(record: ShimRecord): Promise<TaskEndpoint | null> {
  const text = await readTextIfAny(join(record.bundleDir, BOOTSTRAP_FILE))
  if (text === undefined) return null
  const { address, version } = JSON.parse(text) as TaskEndpoint
  return { address, version }
}

/** Has the shim's program clear up what a shim that is gone has left of its first task. Nothing there is success. */
export async function runShimDelete(
  record: ShimRecord,
  options: BootstrapOptions,
  { run }: Pick<BootstrapDeps, 'run'>,
  signal: AbortSignal,
): Promise<void> {
  const { id, bundleDir: cwd } = record.task
  const args = [...shimArguments({ ...record, id }), '-publish-binary', PUBLISH_BINARY, '-bundle', cwd, 'delete']
  const call = { ...environment(record, options), timeoutMs: options.timeoutMs, signal, cwd }
  expectSuccess(record.binary, args, await run(record.binary, args, call))
}

/** What is on the command line of the shim's process, too: by that it is found. */
function shimArguments({ id, namespace, ownerAddress }: ShimRecord): string[] {
  return ['-namespace', namespace, '-id', id, '-address', ownerAddress]
}

async function start(
  record: ShimRecord,
  options: BootstrapOptions,
  deps: BootstrapDeps,
  signal: AbortSignal,
): Promise<string> {
  const args = [...shimArguments(record), '-publish-binary', PUBLISH_BINARY, 'start']
  const { timeoutMs } = options
  const run = async (input: Uint8Array): Promise<string> => {
    const call = { ...environment(record, options), input, timeoutMs, signal, cwd: record.bundleDir }
    const result = await deps.run(record.binary, args, call)
    return expectSuccess(record.binary, args, result).stdout
  }
  try {
    return await run(legacyInput(record.options, deps.messages))
  } catch (error) {
    if (!(error instanceof ExecError)) throw error
    if (WANTS_PARAMETERS.test(error.stderr)) return run(parameters(record, deps.messages))
    const log = await readTextIfAny(join(record.bundleDir, LOG_FILE))
    const said = log
      ? `; its log: ${log
          .slice(-LOG_TAIL_CHARS)
          .trim()
          .replaceAll(/\s*\n\s*/g, '; ')}`
      : ''
    throw new CodedError(error.code, `start shim of ${record.id}: ${errorMessage(error)}${said}`, { cause: error })
  }
}

/** As shims before 2.3 want it: the options of their runtime, or nothing. */
function legacyInput(options: TaskOptions | null, { google }: ProtoGrpcType): Uint8Array {
  return options === null ? new Uint8Array(0) : google.protobuf.Any.serialize(toAny(options))
}

function parameters(record: ShimRecord, { containerd }: ProtoGrpcType): Uint8Array {
  return containerd.runtime.bootstrap.v1.BootstrapParams.serialize({
    instance_id: record.id,
    namespace: record.namespace,
    containerd_ttrpc_address: record.eventsAddress,
    containerd_grpc_address: record.ownerAddress,
    containerd_binary: PUBLISH_BINARY,
    extensions: record.options === null ? [] : [{ value: toAny(record.options) }],
  })
}

function toAny({ typeUrl, value }: TaskOptions): { type_url: string; value: Buffer } {
  return { type_url: typeUrl, value: Buffer.from(value, 'base64') }
}

function environment(record: ShimRecord, { searchPath }: BootstrapOptions): { readonly env: Record<string, string> } {
  return {
    env: {
      PATH: searchPath,
      GOMAXPROCS: '2',
      MAX_SHIM_VERSION,
      TTRPC_ADDRESS: record.eventsAddress,
      GRPC_ADDRESS: record.ownerAddress,
      NAMESPACE: record.namespace,
    },
  }
}

/**
 * What a shim printed: JSON (version 3), a message (since containerd 2.3), or a bare address (version 2).
 * @throws CodedError `FailedPrecondition` for what is none of these.
 */
export function parseBootstrapOutput(output: string, { containerd }: ProtoGrpcType): TaskEndpoint {
  const text = output.trim()
  try {
    if (text.startsWith('{')) return toEndpoint(JSON.parse(text) as Partial<Bootstrap>)
    // Begins with the number of its first field; nothing in it but the address and small numbers, so that it is text.
    if (output.startsWith('\b')) {
      return toEndpoint(containerd.runtime.bootstrap.v1.BootstrapResult.deserialize(Buffer.from(output)))
    }
  } catch (cause) {
    throw new CodedError('FailedPrecondition', `shim: it printed ${JSON.stringify(output)}: ${errorMessage(cause)}`, {
      cause,
    })
  }
  if (!/^(unix:\/\/)?\/\S+$/.test(text)) {
    throw new CodedError(
      'FailedPrecondition',
      `shim: it printed no address that can be spoken to: ${JSON.stringify(text)}`,
    )
  }
  return toEndpoint({ version: 2, protocol: 'ttrpc', address: text.startsWith('/') ? `unix://${text}` : text })
}

interface Bootstrap {
  readonly version: number
  readonly address: string
  readonly protocol: string
}

function toEndpoint({ version = 0, address = '', protocol = '' }: Partial<Bootstrap>): TaskEndpoint {
  return { address: `${protocol}+${address}`, version }
}
