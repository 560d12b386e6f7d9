import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { arch, tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { runOk } from '../../src/host/programs/run.ts'
import { besideRegistry, type Registry, REGISTRY_USER } from './registry.ts'
import { tar, type TarEntry } from './tar.ts'

/** Debian's busybox-static. */
const BUSYBOX = '/bin/busybox'
const OCI = 'application/vnd.oci.image'
/** As Go and images call it. */
const ARCHITECTURE = arch() === 'x64' ? 'amd64' : arch()

/** Those that tests use; the binary has more. */
const APPLETS =
  'sh setsid ls cat echo sleep true false id env pwd yes head tail dd wc stat mount umount touch mkdir rm ln mknod grep sed awk ' +
  'hostname tty ps kill nc httpd wget ping ip test [ printf seq sync date tr cut sort readlink df free usleep chmod chown'

/** The part of an image's configuration that says how to run it (image-spec 1.1, config.md). */
export interface ImageConfig {
  readonly Entrypoint?: readonly string[]
  readonly Cmd?: readonly string[]
  readonly Env?: readonly string[]
  readonly User?: string
  readonly WorkingDir?: string
  readonly StopSignal?: string
  readonly Volumes?: Readonly<Record<string, object>>
  readonly Labels?: Readonly<Record<string, string>>
}

export interface ImageOptions {
  /** `busybox`, `some/path`. */
  readonly name: string
  readonly tag?: string
  /** The layers from the lowest one. Default: {@link busyboxLayer} alone. */
  readonly layers?: readonly (readonly TarEntry[])[]
  readonly config?: ImageConfig
  readonly compression?: 'gzip' | 'zstd' | 'none'
  /** An index with an image for each of these (`amd64`, `s390x`), which differ in the label `architecture`. */
  readonly architectures?: readonly string[]
  /** `docker` for a docker v2s2 manifest. */
  readonly format?: 'oci' | 'docker'
}

export interface PushedImage {
  /** `127.0.0.1:41777/busybox:1`. */
  readonly ref: string
  /** `127.0.0.1:41777/busybox@sha256:…`. */
  readonly digestRef: string
  /** The digest of the configuration, which is what the CRI calls the image's id. Of a docker image, `''`. */
  readonly id: string
  /** The compressed size of its layers. */
  readonly layerBytes: number
}

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
  readonly platform?: object
}

let busybox: readonly TarEntry[] | undefined

/** The file system of a small Linux: busybox with its applets, users root, web (1000) and nobody. */
export function busyboxLayer(): readonly TarEntry[] {
  busybox ??= [
    ...['bin', 'dev', 'etc', 'proc', 'sys', 'root', 'run', 'var', 'usr', 'home', 'home/web'].map(
      (path) => ({ path, type: 'directory' }) as const,
    ),
    { path: 'tmp', type: 'directory', mode: 0o1777 },
    { path: 'bin/busybox', content: readFileSync(BUSYBOX), mode: 0o755 },
    ...APPLETS.split(' ').map((name) => ({ path: `bin/${name}`, type: 'symlink', target: 'busybox' }) as const),
    {
      path: 'etc/passwd',
      content:
        'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n',
    },
    { path: 'etc/group', content: 'root:x:0:\nweb:x:1001:\naudio:x:29:web\nstaff:x:50:web,nobody\nnogroup:x:65534:\n' },
  ]
  return busybox
}

/** Makes an image and pushes it. Needs no network but the registry's loopback. */
export async function pushImage(registry: Registry, options: ImageOptions): Promise<PushedImage> {
  const { name, tag = '1', format = 'oci' } = options
  const dir = await mkdtemp(join(tmpdir(), 'sbx-layout-'))
  try {
    const layout = new Layout(dir)
    const { manifest, id, layerBytes } = await layout.image(options)
    const ref = `${registry.address}/${name}:${tag}`
    const args = ['copy', '--quiet', `--dest-tls-verify=false`, ...(options.architectures ? ['--all'] : [])]
    if (format === 'docker') args.push('--format', 'v2s2')
    else args.push('--preserve-digests')
    if (registry.auth) args.push('--dest-creds', `${REGISTRY_USER.username}:${REGISTRY_USER.password}`)
    const digestFile = join(dir, 'digest')
    args.push('--digestfile', digestFile, `oci:${dir}:image`, `docker://${ref}`)
    await besideRegistry(registry, '/usr/bin/skopeo', ['--insecure-policy', ...args])
    const digest = options.architectures ? manifest.digest : readFileSync(digestFile, 'utf8').trim()
    return {
      ref,
      digestRef: `${registry.address}/${name}@${digest}`,
      id: format === 'docker' ? '' : id,
      layerBytes,
    }
  } finally {
    // Ours from mkdtemp.
    await rm(dir, { recursive: true, force: true })
  }
}

/** An OCI image layout (image-spec 1.1, image-layout.md) that holds one image under the name `image`. */
class Layout {
  readonly #dir: string

  constructor(dir: string) {
    this.#dir = dir
  }

  async image(options: ImageOptions): Promise<{ manifest: Descriptor; id: string; layerBytes: number }> {
    await mkdir(join(this.#dir, 'blobs/sha256'), { recursive: true })
    const layers = []
    for (const entries of options.layers ?? [busyboxLayer()]) layers.push(await this.#layer(entries, options))
    const architectures = options.architectures ?? [ARCHITECTURE]
    const images = []
    for (const architecture of architectures) images.push(await this.#manifest(options, architecture, layers))
    const own = images[Math.max(0, architectures.indexOf(ARCHITECTURE))]
    if (!own) throw new Error(`image ${options.name}: no architecture`)
    let manifest = own.manifest
    if (options.architectures) {
      const manifests = images.map((image) => image.manifest)
      manifest = await this.#json(`${OCI}.index.v1+json`, { manifests })
    }
    const named = { ...manifest, annotations: { 'org.opencontainers.image.ref.name': 'image' } }
    await writeFile(join(this.#dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
    await writeFile(join(this.#dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [named] }))
    return { manifest, id: own.id, layerBytes: layers.reduce((sum, { blob }) => sum + blob.size, 0) }
  }

  async #manifest(
    options: ImageOptions,
    architecture: string,
    layers: readonly { blob: Descriptor; diffId: string }[],
  ): Promise<{ manifest: Descriptor; id: string }> {
    const labels = options.architectures ? { architecture, ...options.config?.Labels } : options.config?.Labels
    const config = await this.#json(`${OCI}.config.v1+json`, {
      architecture,
      os: 'linux',
      config: { Env: ['PATH=/bin'], ...options.config, ...(labels ? { Labels: labels } : {}) },
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    })
    const manifest = await this.#json(`${OCI}.manifest.v1+json`, { config, layers: layers.map(({ blob }) => blob) })
    return { manifest: { ...manifest, platform: { architecture, os: 'linux' } }, id: config.digest }
  }

  async #layer(
    entries: readonly TarEntry[],
    { compression = 'gzip' }: ImageOptions,
  ): Promise<{ blob: Descriptor; diffId: string }> {
    const plain = tar(entries)
    const blob = await this.#blob(await this.#compressed(plain, compression))
    const mediaType = `${OCI}.layer.v1.tar${compression === 'none' ? '' : `+${compression}`}`
    return { blob: { mediaType, ...blob }, diffId: sha256(plain) }
  }

  async #compressed(plain: Buffer, compression: 'gzip' | 'zstd' | 'none'): Promise<Buffer> {
    if (compression === 'none') return plain
    if (compression === 'gzip') return gzipSync(plain, { level: 1 })
    const file = join(this.#dir, 'plain')
    await writeFile(file, plain)
    await runOk('/usr/bin/zstd', ['-q', '-f', '-1', '--rm', file, '-o', `${file}.zst`], { timeoutMs: 60_000 })
    return readFileSync(`${file}.zst`)
  }

  async #json(mediaType: string, value: object): Promise<Descriptor> {
    const text = mediaType.includes('.config.') ? value : { schemaVersion: 2, mediaType, ...value }
    return { mediaType, ...(await this.#blob(Buffer.from(JSON.stringify(text)))) }
  }

  async #blob(content: Buffer): Promise<{ digest: string; size: number }> {
    const digest = sha256(content)
    await writeFile(join(this.#dir, 'blobs/sha256', digest.slice('sha256:'.length)), content)
    return { digest, size: content.length }
  }
}

function sha256(content: Buffer): string {
  return `sha256:${createHash('sha256').update(content).digest('hex')}`
}
