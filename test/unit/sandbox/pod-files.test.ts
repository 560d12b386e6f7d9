import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import { hostnameFor, hostsFile, resolvConf } from '../../../src/sandbox/pod-files.ts'

const ID = '0123456789abcdef'.repeat(4)
/** One word of printable characters. */
const word = fc.string({ unit: 'grapheme', minLength: 1 }).filter((text) => !/[\s\p{Cc}]/u.test(text))
/** Something that would not stay one word of its line. */
const broken = fc
  .tuple(fc.string(), fc.constantFrom('\n', '\r', '\0', '\t', '\u0085', '\u001b', ' ', '\u2028'), fc.string())
  .map((parts) => parts.join(''))

describe('resolvConf', () => {
  it('writes one line per server, one for the search list, one for the options', () => {
    const dns = {
      servers: ['10.0.0.10', 'fd00::a'],
      searches: ['ns.svc.local', 'svc.local'],
      options: ['ndots:5', 'edns0'],
    }
    expect(resolvConf(dns, 'nameserver 9.9.9.9\n')).toBe(
      'nameserver 10.0.0.10\nnameserver fd00::a\nsearch ns.svc.local svc.local\noptions ndots:5 edns0\n',
    )
  })

  it('leaves out lines that would be empty', () => {
    expect(resolvConf({ servers: ['10.0.0.10'], searches: [], options: [] }, undefined)).toBe('nameserver 10.0.0.10\n')
    expect(resolvConf({ servers: [], searches: ['a'], options: [] }, 'nameserver 9.9.9.9\n')).toBe('search a\n')
  })

  it.each([null, { servers: [], searches: [], options: [] }])(
    'copies the node file where %j asks for nothing',
    (dns) => {
      expect(resolvConf(dns, '# as is\nnameserver 10.1.1.1')).toBe('# as is\nnameserver 10.1.1.1')
      expect(resolvConf(dns, '')).toBe('')
    },
  )

  it('makes up no resolver where the node has none', () => {
    expect(resolvConf(null, undefined)).toMatch(/^#.*\n$/)
  })

  it.each(['servers', 'searches', 'options'] as const)('names the entry of %s that it refuses', (field) => {
    const dns = { servers: [], searches: [], options: [], [field]: ['good', 'bad\nnameserver 6.6.6.6'] }
    expect(() => resolvConf(dns, undefined)).toThrow(
      `config.dns_config.${field}[1]: must not contain control characters`,
    )
    expect(() => resolvConf({ ...dns, [field]: [''] }, undefined)).toThrow(
      `config.dns_config.${field}[0]: must not be empty`,
    )
  })

  it('holds exactly what was asked for, or refuses it', () => {
    const entries = fc.array(fc.oneof({ weight: 9, arbitrary: word }, { weight: 1, arbitrary: broken }), {
      maxLength: 4,
    })
    fc.assert(
      fc.property(entries, entries, entries, (servers, searches, options) => {
        const entriesOf = [...servers, ...searches, ...options]
        fc.pre(entriesOf.length > 0)
        if (entriesOf.some((entry) => /[\s\p{Cc}]/u.test(entry))) {
          expect(() => resolvConf({ servers, searches, options }, undefined)).toThrow(CodedError)
          return
        }
        const lines = resolvConf({ servers, searches, options }, undefined).trimEnd().split('\n')
        const of = (keyword: string): string[] =>
          lines.map((line) => line.split(/\s/)).flatMap(([first, ...rest]) => (first === keyword ? rest : []))
        expect(of('nameserver')).toEqual(servers)
        expect(of('search')).toEqual(searches)
        expect(of('options')).toEqual(options)
      }),
    )
  })
})

describe('hostsFile', () => {
  it('has the local names and the pod under each of its addresses', () => {
    const lines = hostsFile({ hostname: 'web-0', ips: ['10.88.0.4', 'fd00::4'], hostNetwork: false }).split('\n')
    expect(lines).toContain('127.0.0.1\tlocalhost')
    expect(lines).toContain('::1\tlocalhost ip6-localhost ip6-loopback')
    expect(lines.slice(-3)).toEqual(['10.88.0.4\tweb-0', 'fd00::4\tweb-0', ''])
  })

  it('does not name the pod before its address is known', () => {
    expect(hostsFile({ hostname: 'web-0', hostNetwork: false })).not.toContain('web-0')
  })

  it('is the node file for a pod on the network of the node, and never for another', () => {
    const hostFile = '10.1.1.1 node\n'
    expect(hostsFile({ hostname: 'node', hostNetwork: true, hostFile })).toBe(hostFile)
    expect(hostsFile({ hostname: 'node', hostNetwork: true })).toContain('127.0.0.1\tlocalhost')
    expect(hostsFile({ hostname: 'web-0', hostNetwork: false, hostFile })).not.toContain('10.1.1.1')
  })

  it('refuses what would write further lines', () => {
    const options = { hostname: 'web-0', hostNetwork: false }
    expect(() => hostsFile({ ...options, hostname: 'a\n6.6.6.6 bank.example' })).toThrow('config.hostname: ')
    expect(() => hostsFile({ ...options, ips: ['10.0.0.1', '10.0.0.2\n6.6.6.6'] })).toThrow(
      'ips[1]: must be an IP address',
    )
    fc.assert(
      fc.property(broken, (hostname) => {
        expect(() => hostsFile({ ...options, hostname, ips: ['10.0.0.1'] })).toThrow(CodedError)
      }),
    )
  })
})

describe('hostnameFor', () => {
  const options = { hostname: 'web-0', netMode: 'cni', id: ID, nodeHostname: 'node-7' } as const

  it('is what the caller asks for', () => {
    expect(hostnameFor(options)).toBe('web-0')
  })

  it('is the beginning of the id where the caller asks for nothing', () => {
    expect(hostnameFor({ ...options, hostname: '' })).toBe('0123456789ab')
  })

  it('is that of the node on the network of the node', () => {
    expect(hostnameFor({ ...options, netMode: 'host' })).toBe('node-7')
    expect(hostnameFor({ ...options, netMode: 'host', hostname: '' })).toBe('node-7')
  })

  it('refuses what the kernel or a file would not take, on any network', () => {
    expect(hostnameFor({ ...options, hostname: 'h'.repeat(64) })).toHaveLength(64)
    for (const netMode of ['cni', 'host'] as const) {
      const of = (hostname: string) => () => hostnameFor({ ...options, netMode, hostname })
      expect(of('h'.repeat(65))).toThrow('config.hostname: must be at most 64 bytes long')
      expect(of('a\nb')).toThrow('config.hostname: must not contain control characters')
      expect(of('a b')).toThrow('config.hostname: must not contain white space')
    }
  })
})
