import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../../src/config/parse.ts'

const unit = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../../../packaging/systemd/${name}`, import.meta.url)), 'utf8')
const values = (text: string, key: string): string[] =>
  [...text.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value = '']) => value)

describe('the units of systemd', () => {
  it('listen where the default configuration says that we serve', () => {
    const { cri, sandboxer, state } = parseConfig('', '')
    const socket = unit('sandboxerd.socket')
    expect(values(socket, 'ListenStream')).toEqual([cri.socket, sandboxer.socket])
    expect(values(socket, 'SocketMode').map((mode) => Number.parseInt(mode, 8))).toEqual([cri.mode])
    expect(sandboxer.mode).toBe(cri.mode)
    expect(cri.socket.startsWith(`${state}/`)).toBe(true)
  })

  it('end nothing but the daemon, and hide no mount of it from the node', () => {
    const service = unit('sandboxerd.service')
    const wanted = { KillMode: 'process', OOMPolicy: 'continue', Delegate: 'yes', Type: 'notify', PrivateMounts: 'no' }
    for (const [key, value] of Object.entries(wanted)) expect(values(service, key), key).toEqual([value])
    const harmful =
      /^(Private(?!Mounts)\w+|Protect\w+|Restrict\w+|SystemCall\w+|MountFlags|User|RuntimeDirectory|StateDirectory)=/m
    expect(harmful.exec(service)).toBeNull()
    expect(values(service, 'NoNewPrivileges')).toEqual(['no'])
  })
})
