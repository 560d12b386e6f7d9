import { CodedError, invalidField } from '../core/errors.ts'
import type { LinuxContainerSecurityContext__Output } from '../generated/runtime/v1/LinuxContainerSecurityContext.ts'
import { userOrGroupId } from './int64.ts'
import type { User } from './spec.ts'

const FIELD = 'config.linux.security_context'
const IMAGE_USER = 'user of the image'
const MAX_LINE_CHARS = 1024 * 1024
const MAX_NAME_BYTES = 256
/** NGROUPS_MAX (limits.h): setgroups(2) refuses more. */
const MAX_GROUPS = 65_536

export interface WantedUser {
  readonly securityContext: LinuxContainerSecurityContext__Output | null
  /** As the image has it: `''`, `user`, `uid`, `user:group` or `uid:gid`. */
  readonly imageUser: string
}

/** The container's /etc/passwd and /etc/group; null where there is none. Made by whoever made the image. */
export interface UserFiles {
  readonly passwd: string | null
  readonly group: string | null
}

interface Account {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

/**
 * The user of a container's process: the request's, else the image's, else root. Without a group it gets that of its
 * line in /etc/passwd, else 0. The primary group is always among the additional ones (CVE-2023-25173); with the policy
 * Merge so are those that /etc/group puts the user in, with Strict only those that were asked for.
 *
 * @throws CodedError `InvalidArgument` naming the field, for ids outside 0 to 2^31-1 among others; `FailedPrecondition`
 * when the image has no such user or group, or says something about it that cannot be.
 */
export function resolveUser(wanted: WantedUser, files: UserFiles): User {
  const { securityContext: context } = wanted
  const { user, userField, group, groupField } = askedFor(wanted)
  const passwd = lines(files.passwd, '/etc/passwd')
  const groups = lines(files.group, '/etc/group')
  const account = findAccount(user, userField, passwd)
  const gid = group === '' ? account.gid : findGroup(group, groupField, groups)
  const isStrict = context?.supplemental_groups_policy === 'Strict'
  const asked = (context?.supplemental_groups ?? []).map((id, at) =>
    userOrGroupId(`${FIELD}.supplemental_groups[${at}]`, id),
  )
  const additionalGids = [...new Set([gid, ...(isStrict ? [] : memberships(account.name, groups)), ...asked])]
  if (additionalGids.length > MAX_GROUPS) {
    throw new CodedError('FailedPrecondition', `${userField}: ${additionalGids.length} groups, at most ${MAX_GROUPS}`)
  }
  return { uid: account.uid, gid, additionalGids }
}

function askedFor({ securityContext: context, imageUser }: WantedUser): {
  user: string
  userField: string
  group: string
  groupField: string
} {
  const [uid, name] = [context?.run_as_user ?? null, context?.run_as_username ?? '']
  const gid = context?.run_as_group ?? null
  const groupField = `${FIELD}.run_as_group`
  const group = gid === null ? '' : String(userOrGroupId(groupField, gid.value))
  if (uid !== null && name !== '') throw invalidField(`${FIELD}.run_as_username`, 'is given besides run_as_user')
  if (uid !== null) {
    const userField = `${FIELD}.run_as_user`
    return { user: String(userOrGroupId(userField, uid.value)), userField, group, groupField }
  }
  if (name !== '') {
    checkName(`${FIELD}.run_as_username`, name)
    return { user: name, userField: `${FIELD}.run_as_username`, group, groupField }
  }
  if (group !== '') throw invalidField(groupField, 'needs run_as_user or run_as_username')
  const [user = '', imageGroup = '', ...rest] = imageUser.split(':')
  if (rest.length > 0) throw invalidField(IMAGE_USER, `not like user:group: ${JSON.stringify(imageUser.slice(0, 80))}`)
  checkName(IMAGE_USER, user)
  checkName(IMAGE_USER, imageGroup)
  return { user: user || '0', userField: IMAGE_USER, group: imageGroup, groupField: IMAGE_USER }
}

/** A number is an id, whether or not some line has it for a name. */
function findAccount(user: string, field: string, passwd: readonly string[]): Account {
  const isId = /^[0-9]+$/.test(user)
  const uid = isId ? userOrGroupId(field, user) : undefined
  for (const line of passwd) {
    const [name = '', , uidText = '', gidText = ''] = line.split(':', 4)
    if (uid === undefined ? name !== user : !isNumber(uidText, uid)) continue
    return { name, uid: uid ?? fileId(uidText, '/etc/passwd', name), gid: fileId(gidText, '/etc/passwd', name) }
  }
  if (uid !== undefined) return { name: '', uid, gid: 0 }
  throw new CodedError('FailedPrecondition', `${field}: no user ${JSON.stringify(user)} in the image's /etc/passwd`)
}

function findGroup(group: string, field: string, groups: readonly string[]): number {
  if (/^[0-9]+$/.test(group)) return userOrGroupId(field, group)
  for (const line of groups) {
    const [name = '', , gidText = ''] = line.split(':', 3)
    if (name === group) return fileId(gidText, '/etc/group', name)
  }
  throw new CodedError('FailedPrecondition', `${field}: no group ${JSON.stringify(group)} in the image's /etc/group`)
}

function memberships(user: string, groups: readonly string[]): number[] {
  if (user === '') return []
  return groups.flatMap((line) => {
    const [name = '', , gidText = '', members = ''] = line.split(':', 4)
    return members.split(',').some((member) => member.trim() === user) ? [fileId(gidText, '/etc/group', name)] : []
  })
}

function isNumber(text: string, value: number): boolean {
  return /^[0-9]{1,10}$/.test(text) && Number(text) === value
}

/** An id that is not one must not become 0, which is root. */
function fileId(text: string, file: string, name: string): number {
  if (/^[0-9]{1,10}$/.test(text) && Number(text) < 2 ** 31) return Number(text)
  const shown = `${JSON.stringify(name.slice(0, 80))}: ${JSON.stringify(text.slice(0, 80))}`
  throw new CodedError('FailedPrecondition', `the image's ${file}: not an id in the line of ${shown}`)
}

function lines(text: string | null, file: string): string[] {
  const all = (text ?? '').split('\n')
  if (all.some((line) => line.length > MAX_LINE_CHARS)) {
    throw new CodedError(
      'FailedPrecondition',
      `the image's ${file}: a line is longer than ${MAX_LINE_CHARS} characters`,
    )
  }
  return all
}

function checkName(field: string, name: string): void {
  if (!/^[^\p{Cc}:,/]*$/u.test(name) || Buffer.byteLength(name) > MAX_NAME_BYTES) {
    throw invalidField(field, `not a name: ${JSON.stringify(name.slice(0, 80))}`)
  }
}
