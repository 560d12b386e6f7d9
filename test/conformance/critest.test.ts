import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { run } from '../../src/host/run.ts'
import { bridgeNetwork, ownDaemons } from '../support/daemon.ts'
import { onPath } from '../support/on-path.ts'
import { startRegistry } from '../support/registry.ts'

/**
 * critest pulls images of public registries. `SANDBOXERD_CRITEST_REGISTRY` names a directory with the storage of a
 * registry (as docker-registry has it) that holds them under the same paths, without the names of their registries;
 * `SANDBOXERD_CRITEST_IMAGES` a file for critest's `--test-images-file`, where others than its own are to be used.
 */
const STORAGE = process.env['SANDBOXERD_CRITEST_REGISTRY'] ?? ''
const IMAGES = process.env['SANDBOXERD_CRITEST_IMAGES'] ?? ''
const MIRRORED = ['registry.k8s.io', 'k8s.gcr.io', 'gcr.io', 'public.ecr.aws', 'docker.io', 'quay.io', 'localhost']
/** `crun`, unless told otherwise. */
const HANDLER = process.env['SANDBOXERD_CRITEST_HANDLER'] ?? 'crun'

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

/** Specs that cannot pass here, and why. */
const SKIPPED: Readonly<Record<string, string>> = {
  Streaming: 'Exec, Attach and PortForward are not there yet',
  ...(existsSync('/sys/module/apparmor') ? {} : { AppArmor: 'the kernel has none' }),
  ...(existsSync(PUBLISHED) ? {} : { 'public image with digest': 'the registry has not that image' }),
  benchmark: 'not a specification',
}

interface Spec {
  readonly LeafNodeType: string
  readonly ContainerHierarchyTexts: readonly string[] | null
  readonly LeafNodeText: string
  readonly State: string
  readonly Failure?: { readonly Message: string }
}

const start = ownDaemons()

describe.skipIf(missing.length > 0)('critest', () => {
  it.each(['shim', 'pinned'])(
    'passes with the sandboxer %s',
    async (sandboxer) => {
      const handler = sandboxer === 'shim' ? HANDLER : `${HANDLER}-pinned`
      const portmap = { type: 'portmap', capabilities: { portMappings: true } }
      const daemon = await start({
        config: { default_runtime_handler: handler },
        networks: (own) => ({ '10-test.conflist': bridgeNetwork(own, { bridge: { ipMasq: true }, more: [portmap] }) }),
      })
      await using registry = await startRegistry({ node: daemon.node, storage: STORAGE })
      const mirrors = MIRRORED.map(
        (prefix) => `[[registry]]\nprefix = "${prefix}"\nlocation = "${registry.address}"\ninsecure = true\n`,
      )
      await writeFile(daemon.images.registriesConf, mirrors.join('\n'))
      const report = join(daemon.dir, 'critest.json')
      const socket = `unix://${join(daemon.dir, 'cri.sock')}`
      const focus = process.env['SANDBOXERD_CRITEST_FOCUS'] ?? ''
      const options = {
        'runtime-endpoint': socket,
        'image-endpoint': socket,
        'ginkgo.skip': Object.keys(SKIPPED).join('|'),
        'ginkgo.json-report': report,
        ...(IMAGES === '' ? {} : { 'test-images-file': IMAGES }),
        ...(focus === '' ? {} : { 'ginkgo.focus': focus }),
      }
      const args = ['--ginkgo.no-color', ...Object.entries(options).map(([name, value]) => `--${name}=${value}`)]
      // It reaches pods and host ports over the network of the node.
      const inNode = [`--net=/run/netns/${daemon.node}`, CRITEST ?? '', ...args]
      const { stdout, stderr } = await run('/usr/bin/nsenter', inNode, {
        timeoutMs: 1_200_000,
        maxOutputBytes: 64 << 20,
      })
      expect(existsSync(report), stdout + stderr).toBe(true)
      const [suite] = JSON.parse(await readFile(report, 'utf8')) as { SpecReports: Spec[] }[]
      const specs = (suite?.SpecReports ?? []).filter(({ LeafNodeType }) => LeafNodeType === 'It')
      const passed = specs.filter(({ State }) => State === 'passed').length
      process.stdout.write(`critest on ${handler}: ${passed} passed of ${specs.length}\n`)
      const failed = specs.filter(({ State }) => State !== 'passed' && State !== 'skipped')
      expect(
        failed.map(({ ContainerHierarchyTexts: of, LeafNodeText: leaf, Failure: why }) =>
          [...(of ?? []), leaf, why?.Message ?? ''].join(' / '),
        ),
      ).toEqual([])
      expect(passed).toBeGreaterThan(0)
      await daemon.removeListed()
    },
    1_300_000,
  )
})
