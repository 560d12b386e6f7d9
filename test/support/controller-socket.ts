import { rm } from 'node:fs/promises'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import type { ControllerHandlers } from '../../src/generated/containerd/services/sandbox/v1/Controller.ts'
import { loadSandboxApi } from '../../src/grpc/load.ts'

const { Controller } = loadSandboxApi().containerd.services.sandbox.v1

/** Serves a sandbox Controller on a Unix socket; it may go away and come back. */
export class ControllerSocket {
  readonly #socketPath: string
  readonly #handlers: ControllerHandlers
  #server: Server | undefined

  constructor(socketPath: string, handlers: ControllerHandlers) {
    this.#socketPath = socketPath
    this.#handlers = handlers
  }

  /** One that listens already is success. */
  async listen(): Promise<void> {
    if (this.#server) return
    await rm(this.#socketPath, { force: true })
    const server = new Server()
    server.addService(Controller.service, this.#handlers)
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${this.#socketPath}`, ServerCredentials.createInsecure(), (error) => {
        if (error) reject(error)
        else resolve()
      })
    })
    this.#server = server
  }

  /** Goes away at once; every call under way fails. */
  async close(): Promise<void> {
    this.#server?.forceShutdown()
    this.#server = undefined
    await rm(this.#socketPath, { force: true })
  }
}
