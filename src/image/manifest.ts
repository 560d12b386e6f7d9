import { CodedError } from '../core/errors.ts'

/** A layer as a registry has it. */
export interface RemoteLayer {
  /** `sha256:…` of what comes over the wire. */
  readonly digest: string
  readonly sizeBytes: number
}

interface Descriptor {
  readonly digest?: unknown
  readonly size?: unknown
  readonly platform?: { readonly os?: unknown; readonly architecture?: unknown } | null
}

interface Manifest {
  readonly schemaVersion?: unknown
  readonly manifests?: unknown
  readonly config?: Descriptor | null
  readonly layers?: unknown
}

const DIGEST = /^sha256:[0-9a-f]{64}$/

/**
 * The configuration that a manifest (docker v2s2 or OCI) names; undefined for an index.
 * @throws CodedError `FailedPrecondition` for what is neither.
 */
export function configDigestIn(what: string, text: string): string | undefined {
  const refused = (why: string): CodedError => new CodedError('FailedPrecondition', `pull ${what}: its manifest ${why}`)
  const manifest = parsed(text)
  if (manifest === undefined) throw refused('is not JSON')
  if (manifest.schemaVersion !== 2) {
    throw refused('has a schema that is not supported: only docker v2s2 and OCI are')
  }
  if (Array.isArray(manifest.manifests)) return undefined
  const digest = manifest.config?.digest
  if (!isDigest(digest)) throw refused('names no configuration')
  return digest
}

/** The layers that a manifest names; undefined where it does not say how large each is. */
export function layersIn(text: string): readonly RemoteLayer[] | undefined {
  const layers = parsed(text)?.layers
  if (!Array.isArray(layers)) return undefined
  const found = (layers as readonly (Descriptor | null)[]).map((layer) => ({
    digest: layer?.digest,
    sizeBytes: layer?.size,
  }))
  const isKnown = (layer: (typeof found)[number]): layer is RemoteLayer =>
    isDigest(layer.digest) && typeof layer.sizeBytes === 'number' && layer.sizeBytes >= 0
  return found.every(isKnown) ? found : undefined
}

/** The manifests in an index that may be for this architecture (in Go's words), in their order; all when it is undefined. */
export function imagesIn(index: string, architecture: string | undefined): readonly string[] {
  const manifests = parsed(index)?.manifests
  if (!Array.isArray(manifests)) return []
  return (manifests as readonly (Descriptor | null)[]).flatMap((entry) => {
    const { os, architecture: its } = entry?.platform ?? {}
    const fits = os === 'linux' && (architecture === undefined || its === architecture)
    return fits && isDigest(entry?.digest) ? [entry.digest] : []
  })
}

function isDigest(value: unknown): value is string {
  return typeof value === 'string' && DIGEST.test(value)
}

function parsed(text: string): Manifest | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    // The caller says what it was.
    return undefined
  }
}
