import { invalidField } from '../core/errors.ts'
import { redactText } from '../core/redact-text.ts'

/** A reference to an image in a registry, complete: `busybox` has become `docker.io/library/busybox:latest`. */
export interface ImageReference {
  /** `docker.io`, `localhost:5000`. */
  readonly registry: string
  /** With the registry: `docker.io/library/busybox`. */
  readonly repository: string
  /** `''` where there is a digest, which says more. */
  readonly tag: string
  /** `sha256:…`, or `''`. */
  readonly digest: string
  /** `docker.io/library/busybox:latest` or `docker.io/library/busybox@sha256:…`: its one spelling. */
  readonly name: string
}

const FIELD = 'image.image'
/** The grammar's own limit (distribution/reference). */
const MAX_REPOSITORY = 255
const MAX_REFERENCE = MAX_REPOSITORY + 1 + 128 + 1 + 71

const DOMAIN_LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?'
const REGISTRY = new RegExp(`^(?:${DOMAIN_LABEL}(?:\\.${DOMAIN_LABEL})*|\\[[0-9a-fA-F:]+\\])(?::[0-9]{1,5})?$`)
const PATH_PART = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/
const DIGEST = /^sha256:[0-9a-f]{64}$/

/**
 * Reads a reference as docker does (distribution/reference): without a registry it is docker.io's, without a tag and a
 * digest it means `latest`, and a digest overrules a tag.
 * @throws CodedError `InvalidArgument` naming the field.
 */
export function parseReference(text: string): ImageReference {
  if (text === '') throw refused(text, 'must not be empty')
  if (text.length > MAX_REFERENCE) throw refused(text, `longer than ${MAX_REFERENCE} characters`)
  if (/^[0-9a-f]{64}$/.test(text)) throw refused(text, 'is the id of an image, not the name of one')
  const [named = '', digest, ...more] = text.split('@')
  if (more.length > 0 || (digest !== undefined && !DIGEST.test(digest)))
    throw refused(text, 'its digest is not sha256:…')
  // A colon that a slash follows belongs to the port of the registry.
  const colon = named.lastIndexOf(':') > named.lastIndexOf('/') ? named.lastIndexOf(':') : -1
  const tag = colon === -1 ? undefined : named.slice(colon + 1)
  if (tag !== undefined && !TAG.test(tag)) throw refused(text, 'its tag is not one')
  const { registry, path } = splitRegistry(colon === -1 ? named : named.slice(0, colon))
  if (!REGISTRY.test(registry)) throw refused(text, 'its registry is not a host name')
  if (!path.split('/').every((part) => PATH_PART.test(part))) throw refused(text, 'its name is not one')
  const repository = `${registry}/${path}`
  if (repository.length > MAX_REPOSITORY) throw refused(text, `its name is longer than ${MAX_REPOSITORY} characters`)
  if (isReserved(repository)) throw refused(text, 'its name is reserved')
  if (digest !== undefined) return { registry, repository, tag: '', digest, name: `${repository}@${digest}` }
  const shownTag = tag ?? 'latest'
  return { registry, repository, tag: shownTag, digest: '', name: `${repository}:${shownTag}` }
}

/** Like {@link parseReference}, but undefined for what is no reference. */
export function tryReference(text: string): ImageReference | undefined {
  try {
    return parseReference(text)
  } catch {
    // Not a reference is an answer here.
    return undefined
  }
}

/** The names under which images lie while they are pulled. `.invalid` is nobody's (RFC 2606). */
const STAGING = 'sandboxerd.invalid/staging'

/** The name of a pull under way. Nobody can ask for such an image. */
export function stagingName(pullId: string): string {
  return `${STAGING}:${pullId}`
}

export function isStaging(name: string): boolean {
  return name.startsWith(`${STAGING}:`)
}

function isReserved(repository: string): boolean {
  return repository === STAGING
}

/** The first part is a registry when it looks like a host, and not like the name of a user. */
function splitRegistry(name: string): { registry: string; path: string } {
  const slash = name.indexOf('/')
  const first = name.slice(0, Math.max(slash, 0))
  const isHost = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase()
  const registry = slash !== -1 && isHost ? first : 'docker.io'
  const path = slash !== -1 && isHost ? name.slice(slash + 1) : name
  if (registry !== 'docker.io' && registry !== 'index.docker.io') return { registry, path }
  return { registry: 'docker.io', path: path.includes('/') ? path : `library/${path}` }
}

function refused(text: string, why: string): Error {
  return invalidField(FIELD, `${why}: ${JSON.stringify(redactText(text).slice(0, 80))}`)
}
