import { readFile } from 'node:fs/promises'

/**
 * The numeric id of a group: a name of /etc/group, or the id itself.
 *
 * @returns undefined when there is no such name.
 */
export async function groupId(group: string, groupFile = '/etc/group'): Promise<number | undefined> {
  if (/^\d+$/.test(group)) return Number(group)
  // group(5): name:password:gid:members
  for (const line of (await readFile(groupFile, 'utf8')).split('\n')) {
    const [name, , id] = line.split(':')
    if (name === group && id !== undefined && /^\d+$/.test(id)) return Number(id)
  }
  return undefined
}
