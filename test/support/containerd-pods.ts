import { expect } from 'vitest'
import { TestContainerd } from './containerd.ts'
import { findContainerd } from './peers.ts'
import type { TestPod } from './test-pod.ts'

/** The containerd of these tests, if there is one. */
export const CONTAINERD = findContainerd()

/**
 * The handlers that are tested: `remote`, which is ours, and with `SANDBOXERD_TEST_BASELINE` first `own`, containerd as its
 * own sandboxer: to see whose fault something is.
 */
export const HANDLERS = process.env['SANDBOXERD_TEST_BASELINE'] ? ['own', 'remote'] : ['remote']

/** A containerd for one of them; without ours, if that is not what is tested. */
export function startContainerd(handler: string): Promise<TestContainerd> {
  const program = CONTAINERD ?? ''
  return TestContainerd.start(handler === 'own' ? { program, daemon: null } : { program })
}

/** The configuration of a pod whose files {@link expectFiles} knows. */
export const WITH_FILES = {
  hostname: 'files',
  dns_config: { servers: ['192.0.2.53'], searches: ['example.test'], options: ['ndots:3'] },
}

/** The files that a kubelet's pod expects, in a container that is new and in another one beside it. */
export async function expectFiles({ client }: TestContainerd, pod: TestPod): Promise<void> {
  const id = await pod.start()
  const { hostname = '' } = pod.config
  expect(await client.containers.shell(id, 'cat /etc/hostname; hostname')).toBe(`${hostname}\n${hostname}`)
  const resolved = (await client.containers.shell(id, 'cat /etc/resolv.conf')).split('\n').toSorted()
  expect(resolved).toEqual(['nameserver 192.0.2.53', 'options ndots:3', 'search example.test'])
  expect(await client.containers.shell(id, 'cat /etc/hosts')).toMatch(/^127\.0\.0\.1\s+localhost/m)
  expect(await client.containers.shell(id, 'grep " /dev/shm " /proc/mounts')).toMatch(/tmpfs .*size=65536k/)
  await client.containers.shell(id, 'echo shared >/dev/shm/file')
  expect(await pod.prints('cat /dev/shm/file')).toBe('shared')
}
