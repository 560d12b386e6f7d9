import { canonicalJson } from '../core/canonical-json.ts'
import type { FilesystemUsage as UsageMessage } from '../generated/runtime/v1/FilesystemUsage.ts'
import type { Image } from '../generated/runtime/v1/Image.ts'
import type { ImageStatusResponse } from '../generated/runtime/v1/ImageStatusResponse.ts'
import type { FilesystemUsage, ImageView } from '../image/types.ts'

/** An image as lists and status show it. Its user is a number or a name, never both; without one the kubelet takes root. */
export function toImage(view: ImageView): Image {
  const [user = ''] = view.config.user.split(':')
  const isUid = /^\d{1,18}$/.test(user)
  return {
    id: view.id,
    repo_tags: [...view.repoTags],
    repo_digests: [...view.repoDigests],
    size: view.sizeBytes.toString(),
    uid: isUid ? { value: user } : null,
    username: isUid ? '' : user,
    spec: { image: view.repoTags[0] ?? view.repoDigests[0] ?? view.id, annotations: {} },
    pinned: view.pinned,
  }
}

/** What ImageStatus answers: no image where there is none; with its configuration when verbose. */
export function toImageStatus(view: ImageView | undefined, isVerbose: boolean): ImageStatusResponse {
  if (!view) return { image: null }
  const info = isVerbose ? { info: canonicalJson({ imageSpec: view.spec ?? null }) } : {}
  return { image: toImage(view), info }
}

export function toFilesystemUsage({ mountpoint, atNs, usedBytes, inodesUsed }: FilesystemUsage): UsageMessage {
  return {
    timestamp: atNs.toString(),
    fs_id: { mountpoint },
    used_bytes: { value: usedBytes.toString() },
    inodes_used: { value: inodesUsed.toString() },
  }
}
