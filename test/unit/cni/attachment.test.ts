import { describe, expect, it } from 'vitest'
import type { CniAttachment } from '../../../src/cni/attachment.ts'
import { attachmentEnv, attachmentRequest } from '../../../src/cni/attachment.ts'

const plugin = {
  type: 'bridge',
  name: 'of its own',
  keyA: ['x'],
  capabilities: { mac: true, dns: false, aliases: true },
}
const attachment: CniAttachment = {
  network: 'net',
  cniVersion: '1.0.0',
  config: { name: 'net', cniVersions: ['1.0.0'], disableCheck: false, disableGc: false, plugins: [plugin] },
  containerId: 'abc',
  netnsPath: '/run/netns/x',
  ifName: 'eth0',
  args: [
    ['A', '1'],
    ['B', ''],
  ],
  capabilityArgs: { mac: 'c2:11:22:33:44:55', dns: { servers: ['1.1.1.1'] }, portMappings: [] },
}

describe('attachmentRequest', () => {
  it('gives a plugin its configuration with name, version and the capabilities that it declares', () => {
    expect(attachmentRequest(attachment, plugin, undefined)).toEqual({
      type: 'bridge',
      keyA: ['x'],
      name: 'net',
      cniVersion: '1.0.0',
      runtimeConfig: { mac: 'c2:11:22:33:44:55' },
    })
  })

  it('adds the result so far and no empty runtimeConfig', () => {
    const prevResult = { ips: [] }
    expect(attachmentRequest(attachment, { type: 'portmap' }, prevResult)).toEqual({
      type: 'portmap',
      name: 'net',
      cniVersion: '1.0.0',
      prevResult,
    })
  })
})

describe('attachmentEnv', () => {
  it('is the parameters of CNI', () => {
    expect(attachmentEnv(attachment)).toEqual({
      CNI_CONTAINERID: 'abc',
      CNI_NETNS: '/run/netns/x',
      CNI_IFNAME: 'eth0',
      CNI_ARGS: 'A=1;B=',
    })
    expect(attachmentEnv(attachment, '')['CNI_NETNS']).toBe('')
  })
})
