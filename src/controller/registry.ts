import { CodedError } from '../core/errors.ts'
import type { Controller } from './controller.ts'

/** Maps the names of sandboxers to the controllers that run them. */
export class ControllerRegistry {
  readonly #controllers = new Map<string, Controller>()

  /** @throws CodedError `AlreadyExists` when the name is taken. */
  register(controller: Controller): void {
    if (this.#controllers.has(controller.name)) {
      throw new CodedError('AlreadyExists', `register sandboxer ${controller.name}: there is one of that name`)
    }
    this.#controllers.set(controller.name, controller)
  }

  /** @throws CodedError `NotFound` that names the ones there are. */
  get(name: string): Controller {
    const controller = this.#controllers.get(name)
    if (controller) return controller
    const known = [...this.#controllers.keys()].join(', ')
    throw new CodedError('NotFound', `sandboxer ${name}: not one of ${known}`)
  }

  all(): readonly Controller[] {
    return [...this.#controllers.values()]
  }
}
