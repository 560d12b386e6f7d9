import { describe, expect, it } from 'vitest'
import { redactedJson, redactedText } from '../../../../src/ctl/support/redact.ts'
import { FINISH_TEST_MS, finishes } from '../../../support/finishes.ts'

describe('redactedText', () => {
  it.each([
    'password=hunter2',
    'PASSWORD: hunter2',
    'DB_PASSWORD="hunter2 and more" x',
    "--token 'hunter2'",
    '--registry-password hunter2',
    '{"identity_token":"hunter2"}',
    '{"config":"{\\"auth\\":\\"hunter2\\"}"}',
    'Authorization: Bearer hunter2hunter2',
    'https://user:hunter2@registry.example/v2/',
    'GET https://cdn.example/blob?sig=hunter2&x=1',
    'aws_access_key_id = hunter2',
    'cookie: a=hunter2',
    'x eyJhbGciOiJI.hunter2hunter2.x y',
    '-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----',
    '-----BEGIN PRIVATE KEY-----\nhunter2 and no end',
  ])('hides the secret in %s', (text) => {
    expect(redactedText(text)).not.toContain('hunter2')
  })

  it.each([
    'author: somebody',
    'sandbox 1a2b was stopped after 12 ms',
    'streaming_sessions_total 5',
    'pull docker.io/library/busybox@sha256:0123',
  ])('leaves %s as it is', (text) => {
    expect(redactedText(text)).toBe(text)
  })

  it.each(['a', 'token', 'token=', 'token\\"', '-', '--token ', '-----BEGIN ', 'eyJ'])(
    'takes time in proportion to the text, for many %j',
    (part) => finishes(() => redactedText(part.repeat(500_000))),
    FINISH_TEST_MS,
  )
})

describe('redactedJson', () => {
  it('hides values under secret names, and whole environments', () => {
    expect(
      redactedJson({
        auth: { username: 'u', password: 'p' },
        Env: ['A=1'],
        envs: [{ key: 'A', value: '1' }],
        list: [{ name: 'API_TOKEN', value: 'x', from: 'y' }],
        registryToken: '',
        tokens: 5,
        nested: [{ clientSecret: 'x' }],
        text: 'password=x',
        ok: null,
      }),
    ).toEqual({
      auth: '[redacted]',
      Env: '[redacted]',
      envs: '[redacted]',
      list: [{ name: 'API_TOKEN', value: '[redacted]', from: 'y' }],
      registryToken: '',
      tokens: 5,
      nested: [{ clientSecret: '[redacted]' }],
      text: 'password=[redacted]',
      ok: null,
    })
  })

  it('hides annotations that look secret', () => {
    const hash = '0a1b2c3d4e5f60718293a4b5c6d7e8f9'
    expect(
      redactedJson({
        annotations: {
          'example.com/key': hash,
          'example.com/db-password': 'short',
          'kubernetes.io/config.hash': hash,
          'kubectl.kubernetes.io/last-applied-configuration': '{"spec":{}}',
          plain: 'words of no interest',
        },
      }),
    ).toEqual({
      annotations: {
        'example.com/key': '[redacted]',
        'example.com/db-password': '[redacted]',
        'kubernetes.io/config.hash': hash,
        'kubectl.kubernetes.io/last-applied-configuration': '[redacted]',
        plain: 'words of no interest',
      },
    })
  })
})
