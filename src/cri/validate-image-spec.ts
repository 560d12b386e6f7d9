import type { ImageSpec__Output } from '../generated/runtime/v1/ImageSpec.ts'
import { checkMap, checkText, checkWord } from './checks.ts'

/** Longer than any reference: 255 of the name, 128 of the tag, 71 and more of the digest. */
const MAX_IMAGE_BYTES = 1024

/** An image as a container or a mount names it: by tag, by digest or by id. Whether there is such a one is not asked. */
export function checkImageSpec(field: string, image: ImageSpec__Output): void {
  checkWord(`${field}.image`, image.image, MAX_IMAGE_BYTES)
  checkText(`${field}.user_specified_image`, image.user_specified_image, MAX_IMAGE_BYTES)
  checkText(`${field}.image_ref`, image.image_ref, MAX_IMAGE_BYTES)
  checkText(`${field}.runtime_handler`, image.runtime_handler, 253)
  checkMap(`${field}.annotations`, image.annotations)
}
