import { describe, expect, it } from 'vitest'
import { credentialsOf } from '../../../src/image/credentials.ts'

const NONE = { username: '', password: '', auth: '', server_address: '', identity_token: '', registry_token: '' }
const base64 = (text: string): string => Buffer.from(text).toString('base64')

function authsOf(auth: Partial<typeof NONE>, registry = 'registry.example'): unknown {
  const { authFile } = credentialsOf({ ...NONE, ...auth }, registry)
  return authFile === '' ? undefined : (JSON.parse(authFile) as { auths: unknown }).auths
}

describe('credentialsOf', () => {
  it('makes an authentication file of each form', () => {
    const user = { auth: base64('u:p:w') }
    expect(authsOf({ username: 'u', password: 'p:w' })).toEqual({ 'registry.example': user })
    expect(authsOf({ auth: base64('u:p:w') })).toEqual({ 'registry.example': user })
    expect(authsOf({ auth: base64('u:p:w\0\0') })).toEqual({ 'registry.example': user })
    expect(authsOf({ username: 'u', password: 'p:w', identity_token: 't' })).toEqual({ 'registry.example': user })
    const token = { auth: base64('<token>:'), identitytoken: 't' }
    expect(authsOf({ identity_token: 't' })).toEqual({ 'registry.example': token })
    expect(authsOf({})).toBeUndefined()
    expect(credentialsOf(null, 'r').authFile).toBe('')
  })

  it.each([
    ['registry.example', 'registry.example'],
    ['https://registry.example:5000/v2/', 'registry.example:5000'],
    ['http://mirror/path?x', 'mirror'],
    ['https://index.docker.io/v1/', 'docker.io'],
    ['[::1]:5000', '[::1]:5000'],
  ])('are for the host of %s only', (server_address, host) => {
    expect(Object.keys(authsOf({ username: 'u', server_address }) as object)).toEqual([host])
  })

  it.each([
    [{ auth: 'x' }, 'auth.auth'],
    [{ username: 'a:b' }, 'auth.username'],
    [{ registry_token: 't' }, 'auth.registry_token'],
    [{ username: 'u', server_address: 'a b' }, 'auth.server_address'],
    [{ username: 'u', password: 'p'.repeat(70_000) }, 'auth.password'],
  ])('refuses %o without quoting it', (auth, field) => {
    expect(() => authsOf(auth)).toThrow(expect.objectContaining({ code: 'InvalidArgument' }))
    expect(() => authsOf(auth)).toThrow(new RegExp(`^${field}: `))
    expect(() => authsOf(auth)).not.toThrow(/a:b|a b|ppp/)
  })

  it('tells equal ones from others without telling them', () => {
    const one = credentialsOf({ ...NONE, username: 'u', password: 'canary' }, 'r')
    expect(credentialsOf({ ...NONE, auth: base64('u:canary') }, 'r').fingerprint).toBe(one.fingerprint)
    expect(credentialsOf({ ...NONE, username: 'u', password: 'other' }, 'r').fingerprint).not.toBe(one.fingerprint)
    expect(one.fingerprint).not.toContain('canary')
    expect(one.secrets).toEqual(expect.arrayContaining(['canary', base64('u:canary')]))
  })
})
