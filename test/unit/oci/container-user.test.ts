import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { LinuxContainerSecurityContext__Output } from '../../../src/generated/runtime/v1/LinuxContainerSecurityContext.ts'
import { resolveUser } from '../../../src/oci/container-user.ts'
import { CodedError } from '../../../src/core/errors.ts'
import { containerContext } from './container-fixtures.ts'
import { coded } from './fixtures.ts'

const PASSWD = 'root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/var/www:/bin/false\nodd:x:4294967296:x::/:\n'
const GROUP = 'root:x:0:\nwww:x:34:\nsudo:x:27:www,other\naudio:x:29:other, www\nbad:x:-1:other\n'

function user(
  imageUser: string,
  context: Partial<LinuxContainerSecurityContext__Output> = {},
  files: { passwd: string | null; group: string | null } = { passwd: PASSWD, group: GROUP },
) {
  return resolveUser({ securityContext: containerContext(context), imageUser }, files)
}
const id = (value: string) => ({ value })

describe('resolveUser', () => {
  it.each([
    ['', 0, 0, [0]],
    ['0', 0, 0, [0]],
    ['www', 33, 34, [34, 27, 29]],
    ['33', 33, 34, [34, 27, 29]],
    ['www:sudo', 33, 27, [27, 29]],
    ['www:5', 33, 5, [5, 27, 29]],
    ['12345', 12_345, 0, [0]],
    ['12345:6', 12_345, 6, [6]],
    [':sudo', 0, 27, [27]],
    ['2147483647', 2_147_483_647, 0, [0]],
  ])('reads the image’s user %j', (text, uid, gid, additionalGids) => {
    expect(user(text)).toEqual({ uid, gid, additionalGids })
  })

  it('prefers what the request says, and knows its groups', () => {
    expect(user('root', { run_as_user: id('33') })).toEqual({ uid: 33, gid: 34, additionalGids: [34, 27, 29] })
    expect(user('root:root', { run_as_username: 'www', run_as_group: id('7') })).toEqual({
      uid: 33,
      gid: 7,
      additionalGids: [7, 27, 29],
    })
  })

  it('adds the groups asked for, and with Strict no others', () => {
    const supplemental_groups = ['29', '4000']
    expect(user('www', { supplemental_groups }).additionalGids).toEqual([34, 27, 29, 4000])
    const strict = { supplemental_groups, supplemental_groups_policy: 'Strict' } as const
    expect(user('www', strict).additionalGids).toEqual([34, 29, 4000])
  })

  it('takes numbers for what they are without any file', () => {
    const none = { passwd: null, group: null }
    expect(user('33:34', {}, none)).toEqual({ uid: 33, gid: 34, additionalGids: [34] })
    expect(() => user('www', {}, none)).toThrow(coded('FailedPrecondition', 'no user "www"'))
    expect(() => user('33:www', {}, none)).toThrow(coded('FailedPrecondition', 'no group "www"'))
  })

  it('refuses ids that would wrap around to root', () => {
    for (const value of ['2147483648', '4294967296', '-1', '9007199254740993']) {
      expect(() => user('', { run_as_user: id(value) })).toThrow(coded('InvalidArgument', 'run_as_user'))
      expect(() => user('', { supplemental_groups: [value] })).toThrow(
        coded('InvalidArgument', 'supplemental_groups[0]'),
      )
      expect(() => user('', { run_as_user: id('1'), run_as_group: id(value) })).toThrow(
        coded('InvalidArgument', 'run_as_group'),
      )
    }
    expect(() => user('4294967296')).toThrow(coded('InvalidArgument', 'user of the image'))
    expect(() => user('1:4294967296')).toThrow(coded('InvalidArgument', 'user of the image'))
  })

  it('refuses ids of the image’s files that are none, but only where they matter', () => {
    expect(() => user('odd')).toThrow(coded('FailedPrecondition', '/etc/passwd'))
    expect(() => user('other', {}, { passwd: 'other:x:5:5', group: GROUP })).toThrow(
      coded('FailedPrecondition', '/etc/group'),
    )
  })

  it('refuses a group without a user, two users, and names that are none', () => {
    expect(() => user('', { run_as_group: id('1') })).toThrow(coded('InvalidArgument', 'run_as_group'))
    expect(() => user('', { run_as_user: id('1'), run_as_username: 'www' })).toThrow(
      coded('InvalidArgument', 'run_as_username'),
    )
    for (const name of ['a\nb', 'a\0b', 'a:b', 'x'.repeat(257)]) {
      expect(() => user('', { run_as_username: name })).toThrow(coded('InvalidArgument', 'run_as_username'))
    }
    for (const name of ['a:b:c', 'a\rb', 'www:a\nb']) {
      expect(() => user(name)).toThrow(coded('InvalidArgument', 'user of the image'))
    }
  })

  it('refuses lines and memberships without end', () => {
    const group = `g:x:1:${'a,'.repeat(600_000)}`
    expect(() => user('www', {}, { passwd: PASSWD, group })).toThrow(coded('FailedPrecondition', 'longer'))
    const many = Array.from({ length: 65_537 }, (_, at) => `g${at}:x:${at}:www`).join('\n')
    expect(() => user('www', {}, { passwd: PASSWD, group: many })).toThrow(coded('FailedPrecondition', 'groups'))
  })

  it('answers with ids in range or an error of ours, whatever the files say', () => {
    const line = fc.array(
      fc.oneof(fc.constantFrom('www', 'root', 'x', '', '0', '33', '2147483648', '-1'), fc.string()),
      {
        maxLength: 6,
      },
    )
    const file = fc.option(fc.array(line.map((fields) => fields.join(':'))).map((lines) => lines.join('\n')))
    const asked = fc.oneof(fc.constantFrom('www', '33', 'www:www', ''), fc.string())
    fc.assert(
      fc.property(asked, file, file, (text, passwd, group) => {
        try {
          const { uid, gid, additionalGids } = user(text, {}, { passwd, group })
          for (const number of [uid, gid, ...additionalGids]) {
            expect(Number.isInteger(number) && number >= 0 && number < 2 ** 31).toBe(true)
          }
          expect(additionalGids).toContain(gid)
        } catch (error) {
          expect(error).toBeInstanceOf(CodedError)
        }
      }),
    )
  })
})
