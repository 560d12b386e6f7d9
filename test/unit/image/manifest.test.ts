import { describe, expect, it } from 'vitest'
import { configDigestIn, imagesIn, layersIn } from '../../../src/image/manifest.ts'

const digest = (char: string): string => `sha256:${char.repeat(64)}`
const manifest = JSON.stringify({
  schemaVersion: 2,
  config: { digest: digest('c'), size: 10 },
  layers: [
    { digest: digest('1'), size: 100 },
    { digest: digest('2'), size: 0 },
  ],
})
const index = JSON.stringify({
  schemaVersion: 2,
  manifests: [
    { digest: digest('a'), platform: { os: 'linux', architecture: 's390x' } },
    { digest: digest('b'), platform: { os: 'linux', architecture: 'amd64' } },
    { digest: digest('d'), platform: { os: 'windows', architecture: 'amd64' } },
    { digest: digest('e') },
    null,
    { digest: 'nonsense', platform: { os: 'linux', architecture: 'amd64' } },
  ],
})

describe('configDigestIn', () => {
  it('finds the configuration of a manifest, and none in an index', () => {
    expect(configDigestIn('x', manifest)).toBe(digest('c'))
    expect(configDigestIn('x', index)).toBeUndefined()
  })

  it.each([
    ['{', 'is not JSON'],
    ['7', 'is not JSON'],
    ['{"schemaVersion":1}', 'schema that is not supported'],
    ['{"schemaVersion":2,"config":{"digest":"x"}}', 'names no configuration'],
    ['{"schemaVersion":2,"config":null}', 'names no configuration'],
  ])('refuses %s', (text, why) => {
    expect(() => configDigestIn('x', text)).toThrow(why)
  })
})

describe('layersIn', () => {
  it('has all layers with their sizes, or nothing', () => {
    expect(layersIn(manifest)).toEqual([
      { digest: digest('1'), sizeBytes: 100 },
      { digest: digest('2'), sizeBytes: 0 },
    ])
    for (const text of ['x', index, '{"layers":[null]}', `{"layers":[{"digest":"${digest('1')}","size":-1}]}`]) {
      expect(layersIn(text)).toBeUndefined()
    }
  })
})

describe('imagesIn', () => {
  it('has those that may be for an architecture', () => {
    expect(imagesIn(index, 'amd64')).toEqual([digest('b')])
    expect(imagesIn(index, undefined)).toEqual([digest('a'), digest('b')])
    expect(imagesIn(manifest, 'amd64')).toEqual([])
  })
})
