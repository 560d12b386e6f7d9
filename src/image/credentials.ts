import { createHash } from 'node:crypto'
import { invalidField } from '../core/errors.ts'
import type { AuthConfig__Output } from '../generated/runtime/v1/AuthConfig.ts'

/** What a registry is told for one pull. */
export interface Credentials {
  /** The content of an authentication file (containers-auth.json(5)), or `''` for none. */
  readonly authFile: string
  /** Equal for equal credentials, and tells nothing of them. */
  readonly fingerprint: string
  /** What must never be shown, in every form in which it travels. */
  readonly secrets: readonly string[]
}

const NONE: Credentials = { authFile: '', fingerprint: '', secrets: [] }
const MAX_BYTES = 64 * 1024
/** Other names of the same registry. */
const DOCKER_HUB = ['index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com']

/**
 * Turns the credentials of a request into a file for the tool that pulls. They are for `server_address` where it is given
 * (also a mirror's), and else for the registry of the image; no other host gets to see them.
 * @throws CodedError `InvalidArgument` naming the field. `registry_token` is refused: the tool takes it on its command line
 * only, where every process of the node can read it.
 */
export function credentialsOf(auth: AuthConfig__Output | null, registry: string): Credentials {
  if (auth === null) return NONE
  for (const [key, value] of Object.entries(auth)) {
    if (typeof value === 'string' && Buffer.byteLength(value) > MAX_BYTES) {
      throw invalidField(`auth.${key}`, `longer than ${MAX_BYTES} bytes`)
    }
  }
  const entry = entryOf(auth)
  if (entry === undefined) return NONE
  const host = auth.server_address === '' ? registry : hostOf(auth.server_address)
  const authFile = JSON.stringify({ auths: { [host]: entry } })
  const secrets = [auth.password, auth.auth, auth.identity_token, entry.auth, passwordIn(entry.auth)]
  return {
    authFile,
    fingerprint: createHash('sha256').update(authFile).digest('hex'),
    secrets: [...new Set(secrets)].filter((secret) => secret !== ''),
  }
}

function entryOf(auth: AuthConfig__Output): { auth: string; identitytoken?: string } | undefined {
  if (auth.identity_token !== '' && auth.password === '') {
    // The user is not asked for a token, but an entry without one is passed over.
    const user = auth.username === '' ? '<token>' : plainUser(auth.username)
    return { auth: base64(`${user}:`), identitytoken: auth.identity_token }
  }
  if (auth.username !== '') return { auth: base64(`${plainUser(auth.username)}:${auth.password}`) }
  if (auth.auth !== '') {
    // Some clients pad the text with NULs.
    const text = Buffer.from(auth.auth, 'base64').toString().replace(/\0+$/, '')
    if (!text.includes(':')) throw invalidField('auth.auth', 'is not the base64 form of USER:PASSWORD')
    return { auth: base64(text) }
  }
  if (auth.registry_token !== '') {
    throw invalidField('auth.registry_token', 'is not supported: give username and password, or an identity_token')
  }
  return undefined
}

function plainUser(username: string): string {
  if (username.includes(':')) throw invalidField('auth.username', 'must not contain ":"')
  return username
}

/** `https://host:port/path` or `host`. */
function hostOf(address: string): string {
  const host = address.replace(/^[a-z][a-z0-9+.-]*:\/\//i, '').replace(/[/?#].*$/s, '')
  if (!/^(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?$/.test(host)) {
    throw invalidField('auth.server_address', 'is not the address of a registry')
  }
  return DOCKER_HUB.includes(host) ? 'docker.io' : host
}

function passwordIn(auth: string): string {
  const text = Buffer.from(auth, 'base64').toString()
  return text.slice(text.indexOf(':') + 1)
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}
