import { invalidField } from '../core/errors.ts'
import type { AuthConfig__Output } from '../generated/runtime/v1/AuthConfig.ts'
import type { ImageFilter__Output } from '../generated/runtime/v1/ImageFilter.ts'
import type { ImageSpec__Output } from '../generated/runtime/v1/ImageSpec.ts'
import { checkText } from './checks.ts'
import { checkImageSpec } from './validate-image-spec.ts'

/** A user name or a token may be long, but is no file. */
const MAX_SECRET_BYTES = 64 * 1024

/**
 * The image that a request names, as the caller wrote it.
 * @throws CodedError `InvalidArgument` naming the field.
 */
export function validateImage(image: ImageSpec__Output | null): string {
  if (image === null) throw invalidField('image', 'is missing')
  checkImageSpec('image', image)
  return image.image
}

/** The image that a list is asked for, or `''` for all. @throws CodedError `InvalidArgument` naming the field. */
export function validateImageFilter(filter: ImageFilter__Output | null): string {
  const image = filter?.image?.image ?? ''
  checkText('filter.image.image', image, 1024)
  return image
}

/** @throws CodedError `InvalidArgument` naming the field, and never quoting it. */
export function validateAuth(auth: AuthConfig__Output | null): AuthConfig__Output | null {
  if (auth === null) return null
  for (const [key, value] of Object.entries(auth)) {
    const text: unknown = value
    if (typeof text !== 'string') continue
    if (Buffer.byteLength(text) > MAX_SECRET_BYTES)
      throw invalidField(`auth.${key}`, `longer than ${MAX_SECRET_BYTES} bytes`)
  }
  return auth
}
