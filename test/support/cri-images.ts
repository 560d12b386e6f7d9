import { credentials } from '@grpc/grpc-js'
import type { AuthConfig } from '../../src/generated/runtime/v1/AuthConfig.ts'
import type { Image__Output } from '../../src/generated/runtime/v1/Image.ts'
import type { ImageFsInfoResponse__Output } from '../../src/generated/runtime/v1/ImageFsInfoResponse.ts'
import type { ImageServiceClient } from '../../src/generated/runtime/v1/ImageService.ts'
import type { ImageStatusResponse__Output } from '../../src/generated/runtime/v1/ImageStatusResponse.ts'
import type { ListImagesResponse__Output } from '../../src/generated/runtime/v1/ListImagesResponse.ts'
import type { PullImageResponse__Output } from '../../src/generated/runtime/v1/PullImageResponse.ts'
import { loadCri } from '../../src/grpc/load.ts'
import { type CallLimits, collected, unary } from './cri-calls.ts'

const { ImageService } = loadCri().runtime.v1

/** ImageService as promises, each call with a deadline. */
export class ImageClient implements Disposable {
  readonly #client: ImageServiceClient

  constructor(socketPath: string) {
    const options = { 'grpc.use_local_subchannel_pool': 1 }
    this.#client = new ImageService(`unix:${socketPath}`, credentials.createInsecure(), options)
  }

  /** Pulls an image and returns its reference as the daemon gives it. */
  async pull(image: string, auth?: AuthConfig, limits: CallLimits = {}): Promise<string> {
    const request = { image: { image }, ...(auth ? { auth } : {}) }
    const { image_ref: ref } = await unary<PullImageResponse__Output>(limits, (o, done) =>
      this.#client.PullImage(request, o, done),
    )
    return ref
  }

  /** With `image`: only what it means. */
  async list(image?: string): Promise<Image__Output[]> {
    const request = image === undefined ? {} : { filter: { image: { image } } }
    return (await unary<ListImagesResponse__Output>({}, (o, done) => this.#client.ListImages(request, o, done))).images
  }

  /** The same as {@link list}, from the stream. */
  async stream(image?: string): Promise<Image__Output[]> {
    const request = image === undefined ? {} : { filter: { image: { image } } }
    return (await collected((o) => this.#client.StreamImages(request, o))).flatMap(({ images }) => images)
  }

  /** Null when there is none of that name. */
  async status(image: string): Promise<Image__Output | null> {
    return (await this.#status(image, false)).image
  }

  /** What a verbose status adds. */
  async info(image: string): Promise<Record<string, unknown>> {
    const { info } = await this.#status(image, true)
    return JSON.parse(info['info'] ?? '{}') as Record<string, unknown>
  }

  async remove(image: string, limits: CallLimits = {}): Promise<void> {
    await unary(limits, (o, done) => this.#client.RemoveImage({ image: { image } }, o, done))
  }

  async fsInfo(): Promise<ImageFsInfoResponse__Output> {
    return unary<ImageFsInfoResponse__Output>({}, (o, done) => this.#client.ImageFsInfo({}, o, done))
  }

  [Symbol.dispose](): void {
    this.#client.close()
  }

  #status(image: string, verbose: boolean): Promise<ImageStatusResponse__Output> {
    return unary<ImageStatusResponse__Output>({}, (o, done) =>
      this.#client.ImageStatus({ image: { image }, verbose }, o, done),
    )
  }
}
