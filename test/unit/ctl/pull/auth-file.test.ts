import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { authFromFile } from '../../../../src/ctl/pull/auth-file.ts'

const base64 = (text: string): string => Buffer.from(text).toString('base64')

describe('authFromFile', () => {
  let path: string
  let dir: string
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'sbx-auth-'))
    path = join(dir, 'auth.json')
  })
  afterEach(async () => await rm(dir, { recursive: true, force: true }))

  const write = async (value: unknown): Promise<void> =>
    writeFile(path, typeof value === 'string' ? value : JSON.stringify(value))

  it('takes the most specific entry', async () => {
    const auths = { 'r.example': { auth: 'host' }, 'r.example/a': { auth: 'a' }, 'r.example/a/b': { auth: 'ab' } }
    await write({ auths })
    expect(await authFromFile(path, 'r.example/a/b:1')).toEqual({ auth: 'ab' })
    expect(await authFromFile(path, 'r.example/a/c')).toEqual({ auth: 'a' })
    expect(await authFromFile(path, 'r.example/d')).toEqual({ auth: 'host' })
  })

  it.each(['https://index.docker.io/v1/', 'docker.io', 'index.docker.io'])('knows %s for docker.io', async (key) => {
    await write({ auths: { [key]: { auth: 'hub' } } })
    expect(await authFromFile(path, 'busybox')).toEqual({ auth: 'hub' })
  })

  it('takes an entry with a scheme, and none of another path or host', async () => {
    await write({ auths: { 'http://r.example:5000': { auth: 'x' }, 'r.example/other': { auth: 'y' } } })
    expect(await authFromFile(path, 'r.example:5000/a')).toEqual({ auth: 'x' })
    await expect(authFromFile(path, 'r.example/a')).rejects.toThrow('has no entry for r.example')
  })

  it('hands over an identity token with its user', async () => {
    await write({ auths: { 'r.example': { auth: base64('user:'), identitytoken: 'tok' } } })
    expect(await authFromFile(path, 'r.example/a')).toEqual({ username: 'user', identity_token: 'tok' })
  })

  it.each([
    ['not there', undefined, 'ENOENT'],
    ['not JSON', '{"auths": canary', 'is not a JSON object'],
    ['an empty entry', { auths: { 'r.example': {} } }, 'its entry for r.example is empty'],
    ['a helper', { credHelpers: { 'r.example': 'canary' } }, 'credential helper'],
    ['a store', { auths: {}, credsStore: 'canary' }, 'credential helper'],
  ])('says what is wrong with one that has %s, and quotes nothing of it', async (_, content, why) => {
    if (content !== undefined) await write(content)
    const error: unknown = await authFromFile(path, 'r.example/a').catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'FailedPrecondition', message: expect.stringContaining(why) as string })
    expect(String(error)).not.toContain('canary')
  })
})
