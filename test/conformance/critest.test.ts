import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { run } from '../../src/host/programs/run.ts'
import { bridgeNetwork, ownDaemons, SHIM_HANDLERS, type TestDaemon } from '../support/daemon.ts'
import { onPath } from '../support/on-path.ts'
import { startRegistry } from '../support/registry.ts'

/**
 * critest pulls images of public registries. `SANDBOXERD_CRITEST_REGISTRY` names a directory with the storage of a
 * registry (as docker-registry has it) that holds them under the same paths, without the names of their registries;
 * `SANDBOXERD_CRITEST_IMAGES` a file for critest's `--test-images-file`, where others than its own are to be used.
 */
const STORAGE = process.env['SANDBOXERD_CRITEST_REGISTRY'] ?? ''
const IMAGES = process.env['SANDBOXERD_CRITEST_IMAGES'] ?? ''
const FOCUS = process.env['SANDBOXERD_CRITEST_FOCUS'] ?? ''
/** The OCI runtimes to test, each with every sandboxer: `NAME=PATH,…`, where NAME becomes that of the handler. */
const RUNTIMES = process.env['SANDBOXERD_CRITEST_RUNTIMES'] ?? 'crun=/usr/bin/crun,runc=/usr/sbin/runc'
/** Of the handlers that come of these (`NAME`, `NAME-pinned`, and `NAME-v2` where there is a shim), the ones to test; all. */
const HANDLERS = process.env['SANDBOXERD_CRITEST_HANDLERS'] ?? ''
/** Where the tables go as Markdown; docs/conformance.md was written so. */
const OUTPUT = process.env['SANDBOXERD_CRITEST_OUTPUT'] ?? ''
const NOTE =
  'the images came from a registry on the node: stand-ins of the same names and content, made of Debian packages; critest was built with the digest of the one that a spec names by digest'
const MIRRORED = ['registry.k8s.io', 'k8s.gcr.io', 'gcr.io', 'public.ecr.aws', 'docker.io', 'quay.io', 'localhost']
const SCRIPT = fileURLToPath(new URL('../../scripts/conformance.sh', import.meta.url))
const RUN_MS = 900_000

const CRITEST = onPath('critest')
const missing = [
  ...(CRITEST === undefined ? ['critest is not on PATH'] : []),
  ...(existsSync(STORAGE) ? [] : ['SANDBOXERD_CRITEST_REGISTRY names no directory']),
]
// A skipped test says nothing by itself.
if (missing.length > 0) process.emitWarning(`${missing.join(', and ')}: critest does not run`)

/** What one spec pulls by its digest: the published image, and no stand-in. */
const DIGEST = '9700f9a2f5bf2c45f2f605a0bd3bce7cf37420ec9d3ed50ac2758413308766bf'
const PUBLISHED = join(STORAGE, 'docker/registry/v2/blobs/sha256', DIGEST.slice(0, 2), DIGEST)

/** Whoever has put another image into its place has told critest. */
function wantsPublished(): boolean {
  return readFileSync(CRITEST ?? '').includes(DIGEST)
}

const start = ownDaemons()

const handlers = RUNTIMES.split(',')
  .flatMap((text) => {
    const [name = '', runtime = ''] = text.split('=')
    return [
      [name, { runtime, sandboxer: 'shim' }],
      [`${name}-pinned`, { runtime, sandboxer: 'pinned' }],
      ...(SHIM_HANDLERS.length > 0
        ? [[`${name}-v2`, { runtime, runtime_type: 'io.containerd.runc.v2' }] as const]
        : []),
    ] as const
  })
  .filter(([name]) => HANDLERS === '' || HANDLERS.split(',').includes(name))

/** A daemon whose pods reach beyond their node, and may have host ports, with mirrors of all registries. */
async function daemonWithMirrors(): Promise<{ daemon: TestDaemon } & AsyncDisposable> {
  const portmap = { type: 'portmap', capabilities: { portMappings: true } }
  const daemon = await start({
    config: { runtimes: Object.fromEntries(handlers) },
    networks: (own) => ({ '10-test.conflist': bridgeNetwork(own, { bridge: { ipMasq: true }, more: [portmap] }) }),
  })
  const registry = await startRegistry({ node: daemon.node, storage: STORAGE })
  const mirrors = MIRRORED.map(
    (prefix) => `[[registry]]\nprefix = "${prefix}"\nlocation = "${registry.address}"\ninsecure = true\n`,
  )
  await writeFile(daemon.images.registriesConf, mirrors.join('\n'))
  return { daemon, [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose]() }
}

/** scripts/conformance.sh on the node of the daemon: critest reaches pods and host ports over its network. */
async function conformance({ dir, node }: TestDaemon, ...args: readonly string[]): Promise<void> {
  const inNode = [`--net=/run/netns/${node}`, SCRIPT, `--endpoint`, `unix://${join(dir, 'cri.sock')}`, ...args]
  const images = IMAGES === '' ? [] : ['--images', IMAGES]
  const focus = FOCUS === '' ? [] : ['--focus', FOCUS]
  const skip = wantsPublished() && !existsSync(PUBLISHED) ? ['--skip', 'public image with digest'] : []
  const { stdout, stderr, exitCode } = await run('/usr/bin/nsenter', [...inNode, ...images, ...focus, ...skip], {
    env: { PATH: process.env['PATH'] ?? '', TMPDIR: dir },
    timeoutMs: RUN_MS * handlers.length,
    maxOutputBytes: 64 << 20,
  })
  process.stdout.write(`${stdout}${stderr}`)
  expect(exitCode, stdout + stderr).toBe(0)
}

describe.skipIf(missing.length > 0)('critest', () => {
  it(
    'passes with all sandboxers and runtimes',
    async () => {
      await using mirrored = await daemonWithMirrors()
      const names = handlers.map(([name]) => name).join(',')
      await conformance(
        mirrored.daemon,
        '--handler',
        names,
        ...(OUTPUT === '' ? [] : ['--output', OUTPUT, '--note', NOTE]),
      )
      await mirrored.daemon.removeListed()
    },
    RUN_MS * handlers.length,
  )

  it(
    'passes over WebSocket as well',
    async () => {
      await using mirrored = await daemonWithMirrors()
      const [[name] = ['crun']] = handlers
      await conformance(mirrored.daemon, '--handler', name, '--websocket', '--focus', 'Streaming')
      await mirrored.daemon.removeListed()
    },
    RUN_MS,
  )
})
