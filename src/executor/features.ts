import { CodedError } from '../core/errors.ts'
import type { Programs } from '../host/programs/programs.ts'
import type { RuntimeFeatures } from './types.ts'

const TIMEOUT_MS = 10_000

/** The parts of the features document (runtime-spec, features.md) that we read. */
interface Document {
  readonly mountOptions?: readonly string[]
  readonly linux?: {
    readonly namespaces?: readonly string[]
    readonly mountExtensions?: { readonly idmap?: { readonly enabled?: boolean } }
  }
  readonly annotations?: Readonly<Record<string, string>>
}

/**
 * Asks a runtime what it can do: `features`, which runc has since 1.1 and crun since 1.8.6, or else by its version.
 * @throws CodedError when it cannot be run, or says nothing of either.
 */
export async function readFeatures(programs: Programs, path: string): Promise<RuntimeFeatures> {
  const options = { timeoutMs: TIMEOUT_MS }
  const { exitCode, stdout } = await programs.run(path, ['features'], options)
  const document = exitCode === 0 ? parse(stdout) : null
  if (document) return fromDocument(document)
  const version = await programs.runOk(path, ['--version'], options)
  return fromVersion(version.stdout)
}

function parse(text: string): Document | null {
  try {
    return JSON.parse(text) as Document
  } catch {
    return null
  }
}

function fromDocument({ mountOptions, linux, annotations }: Document): RuntimeFeatures {
  const isCheckpointAnnotated = Object.entries(annotations ?? {}).some(
    ([name, value]) => name.endsWith('.checkpoint.enabled') && value === 'true',
  )
  return {
    recursiveReadOnlyMounts: mountOptions?.includes('rro') ?? false,
    idMappedMounts: linux?.mountExtensions?.idmap?.enabled ?? mountOptions?.includes('idmap') ?? false,
    userNamespaces: linux?.namespaces?.includes('user') ?? false,
    checkpoint: isCheckpointAnnotated,
  }
}

function fromVersion(text: string): RuntimeFeatures {
  const [, name, major, minor] = /^(\S+) version v?(\d+)\.(\d+)/m.exec(text) ?? []
  if (name === undefined)
    throw new CodedError('Internal', `features of a runtime: its version is ${text.slice(0, 200)}`)
  const version = Number(major) * 1000 + Number(minor)
  const isCrun = name === 'crun'
  return {
    recursiveReadOnlyMounts: version >= (isCrun ? 1004 : 1001),
    idMappedMounts: version >= (isCrun ? 1005 : 1002),
    userNamespaces: true,
    checkpoint: isCrun ? text.includes('+CRIU') : true,
  }
}
