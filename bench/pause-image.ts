import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { command } from './process.ts'

/** Makes an OCI image archive that holds one static program and runs it. @returns the path of the archive. */
export async function pauseImage(dir: string, program: string, name: string): Promise<string> {
  const blobs = join(dir, 'image/blobs/sha256')
  mkdirSync(blobs, { recursive: true })
  mkdirSync(join(dir, 'rootfs'))
  copyFileSync(program, join(dir, 'rootfs/pause'))

  const layerFile = join(dir, 'layer.tar')
  await command('tar', ['-cf', layerFile, '-C', join(dir, 'rootfs'), '--owner=0', '--group=0', 'pause'], {
    output: true,
  })
  const layer = descriptor('application/vnd.oci.image.layer.v1.tar', readFileSync(layerFile))
  renameSync(layerFile, join(blobs, layer.digest.slice(7)))

  const add = (mediaType: string, value: unknown): Descriptor => {
    const bytes = Buffer.from(JSON.stringify(value))
    const added = descriptor(mediaType, bytes)
    writeFileSync(join(blobs, added.digest.slice(7)), bytes)
    return added
  }
  const config = add('application/vnd.oci.image.config.v1+json', {
    architecture: { x64: 'amd64' }[process.arch as string] ?? process.arch,
    os: 'linux',
    config: { Entrypoint: ['/pause', '-P'] },
    rootfs: { type: 'layers', diff_ids: [layer.digest] },
  })
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const manifest = add(mediaType, { schemaVersion: 2, mediaType, config, layers: [layer] })
  const annotations = { 'io.containerd.image.name': name }
  writeFileSync(
    join(dir, 'image/index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
  )
  writeFileSync(join(dir, 'image/oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  const archive = join(dir, 'image.tar')
  await command('tar', ['-cf', archive, '-C', join(dir, 'image'), '.'], { output: true })
  return archive
}

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

function descriptor(mediaType: string, bytes: Buffer): Descriptor {
  return { mediaType, digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`, size: bytes.length }
}
