import type { Image } from '../generated/runtime/v1/Image.ts'
import type { ImageFilter__Output } from '../generated/runtime/v1/ImageFilter.ts'
import type { ImageServiceHandlers } from '../generated/runtime/v1/ImageService.ts'
import type { ListImagesResponse } from '../generated/runtime/v1/ListImagesResponse.ts'
import { type HandlerDeps, unary } from '../grpc/handler.ts'
import type { Images } from '../image/types.ts'
import { toFilesystemUsage, toImage, toImageStatus } from './image-messages.ts'
import { listHandlers } from './list-handlers.ts'
import { validateAuth, validateImage, validateImageFilter } from './validate-image.ts'

export interface ImageServiceDeps extends HandlerDeps {
  readonly images: Images
  /** The methods on the wire: how large a list is is known to its encoder. */
  readonly wire: {
    readonly ListImages: { readonly responseSerialize: (response: ListImagesResponse) => { readonly length: number } }
  }
}

type ImageMethods = Pick<
  ImageServiceHandlers,
  'PullImage' | 'ListImages' | 'StreamImages' | 'ImageStatus' | 'RemoveImage' | 'ImageFsInfo'
>

/** The CRI front of images: validates, calls, maps. Holds no state. */
export function imageService(deps: ImageServiceDeps): ImageMethods {
  const { images, wire } = deps
  const { list, stream } = listHandlers(
    {
      what: 'images',
      streamName: 'StreamImages',
      items: async ({ filter }: { readonly filter: ImageFilter__Output | null }) =>
        images.list(validateImageFilter(filter)).map(toImage),
      toList: (items: Image[]) => ({ images: items }),
      toPart: (items: Image[]) => ({ images: items }),
      encode: wire.ListImages.responseSerialize,
    },
    deps,
  )
  return {
    ListImages: list,
    StreamImages: stream,
    PullImage: unary(async (request, { signal }) => {
      const image = validateImage(request.image)
      return { image_ref: await images.pull({ image, auth: validateAuth(request.auth) }, signal) }
    }, deps),
    ImageStatus: unary(async ({ image, verbose }) => toImageStatus(images.get(validateImage(image)), verbose), deps),
    RemoveImage: unary(async ({ image }, { signal }) => {
      await images.remove(validateImage(image), signal)
      return {}
    }, deps),
    ImageFsInfo: unary(async (_, { signal }) => {
      const usage = await images.fsInfo(signal)
      return {
        image_filesystems: [toFilesystemUsage(usage.images)],
        container_filesystems: [toFilesystemUsage(usage.containers)],
      }
    }, deps),
  }
}
