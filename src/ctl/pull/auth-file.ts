import { readFile } from 'node:fs/promises'
import { CodedError, errorMessage } from '../../core/errors.ts'
import { parseReference } from '../../image/reference.ts'

/** The part of an AuthConfig of the CRI that a person gives. */
export interface Auth {
  readonly username?: string
  readonly password?: string
  readonly auth?: string
  readonly identity_token?: string
}

const MAX_BYTES = 1024 * 1024
/** Other names of docker.io in such files. */
const DOCKER_HUB = ['docker.io', 'index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com']

type Json = Readonly<Record<string, unknown>>

/**
 * The credentials for an image from an authentication file (containers-auth.json(5), or docker's config.json): those of
 * the most specific entry.
 * @throws CodedError that quotes nothing of the file.
 */
export async function authFromFile(path: string, image: string): Promise<Auth> {
  const { registry, repository } = parseReference(image)
  const refused = (why: string): CodedError =>
    new CodedError('FailedPrecondition', `authentication file ${path}: ${why}`)
  const file = parsed(await readText(path))
  if (file === undefined) throw refused('is not a JSON object')
  const entry = entryFor(objectOf(file['auths']), registry, repository)
  if (entry === undefined) {
    const hasHelper = file['credsStore'] !== undefined || objectOf(file['credHelpers'])[registry] !== undefined
    throw refused(
      hasHelper
        ? `it leaves ${registry} to a credential helper, which is not run here: use --user`
        : `it has no entry for ${registry}`,
    )
  }
  const { auth, identitytoken } = entry
  if (typeof identitytoken === 'string' && identitytoken !== '') {
    const [username = ''] = Buffer.from(typeof auth === 'string' ? auth : '', 'base64')
      .toString()
      .split(':')
    return { username, identity_token: identitytoken }
  }
  if (typeof auth !== 'string' || auth === '') throw refused(`its entry for ${registry} is empty`)
  return { auth }
}

async function readText(path: string): Promise<string> {
  try {
    const content = await readFile(path)
    if (content.length > MAX_BYTES) throw new Error(`has more than ${MAX_BYTES} bytes`)
    return content.toString('utf8')
  } catch (cause) {
    throw new CodedError('FailedPrecondition', `read authentication file ${path}: ${errorMessage(cause)}`, { cause })
  }
}

/** `registry/a/b`, then `registry/a`, then `registry`, however that is spelled. */
function entryFor(auths: Json, registry: string, repository: string): Json | undefined {
  for (let name = repository; name.includes('/'); name = name.slice(0, name.lastIndexOf('/'))) {
    if (Object.hasOwn(auths, name)) return objectOf(auths[name])
  }
  const isIts = (key: string): boolean => {
    const host = key.replace(/^https?:\/\//, '')
    const name = /^[^/]+(?:\/(?:v[12]\/?)?)?$/.test(host) ? host.replace(/\/.*$/, '') : ''
    return name === registry || (registry === 'docker.io' && DOCKER_HUB.includes(name))
  }
  const key = Object.keys(auths).find((one) => one === registry) ?? Object.keys(auths).find(isIts)
  return key === undefined ? undefined : objectOf(auths[key])
}

function parsed(text: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined
  } catch {
    // What Node says of it quotes the file.
    return undefined
  }
}

function objectOf(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {}
}
