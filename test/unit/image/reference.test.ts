import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isStaging, parseReference, stagingName, tryReference } from '../../../src/image/reference.ts'

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`

describe('parseReference', () => {
  it.each([
    ['busybox', 'docker.io/library/busybox:latest'],
    ['busybox:1.36', 'docker.io/library/busybox:1.36'],
    ['user/app', 'docker.io/user/app:latest'],
    ['docker.io/busybox', 'docker.io/library/busybox:latest'],
    ['index.docker.io/busybox', 'docker.io/library/busybox:latest'],
    ['localhost/x', 'localhost/x:latest'],
    ['localhost:5000/x', 'localhost:5000/x:latest'],
    ['127.0.0.1:5000/a/b/c:V-1_2.3', '127.0.0.1:5000/a/b/c:V-1_2.3'],
    ['[::1]:5000/x:1', '[::1]:5000/x:1'],
    ['REGISTRY/x', 'REGISTRY/x:latest'],
    ['registry.k8s.io/pause:3.10', 'registry.k8s.io/pause:3.10'],
    [`busybox@${DIGEST}`, `docker.io/library/busybox@${DIGEST}`],
    [`busybox:1@${DIGEST}`, `docker.io/library/busybox@${DIGEST}`],
    ['a__b/c--d.e', 'docker.io/a__b/c--d.e:latest'],
  ])('takes %s for %s', (text, name) => {
    expect(parseReference(text).name).toBe(name)
    // Its one spelling is its own.
    expect(parseReference(name).name).toBe(name)
  })

  it.each([
    '',
    ' busybox',
    'busybox ',
    'Busybox',
    '-busybox',
    '--help',
    'docker://busybox',
    'oci:/path:tag',
    'containers-storage:[overlay@/x]y',
    'dir:/etc',
    '/etc/passwd',
    '../x',
    'a/../b',
    'a//b',
    'x:',
    'x:tag:tag',
    'x:-tag',
    'x@sha256:abc',
    `x@${DIGEST}@${DIGEST}`,
    `x@sha512:${'0'.repeat(128)}`,
    'user:password@host/x',
    'x?query',
    'x\n',
    'x\0',
    '0'.repeat(64),
    'a'.repeat(300),
    `${'a/'.repeat(300)}b`,
    'sandboxerd.invalid/staging:x',
  ])('refuses %j, naming the field', (text) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: 'InvalidArgument' }))
    expect(() => parseReference(text)).toThrow(/^image\.image: /)
  })

  it('never makes a name of signs that a tool could take for something else', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        const name = tryReference(text)?.name
        if (name !== undefined) expect(name).toMatch(/^[A-Za-z0-9[][A-Za-z0-9.:/@_\-[\]]*$/)
      }),
    )
  })
})

describe('stagingName', () => {
  it('is known again, and nobody can ask for it', () => {
    expect(isStaging(stagingName('1'))).toBe(true)
    expect(tryReference(stagingName('1'))).toBeUndefined()
  })
})
