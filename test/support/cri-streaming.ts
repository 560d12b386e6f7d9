import type { AttachRequest } from '../../src/generated/runtime/v1/AttachRequest.ts'
import type { ExecRequest } from '../../src/generated/runtime/v1/ExecRequest.ts'
import type { RuntimeServiceClient } from '../../src/generated/runtime/v1/RuntimeService.ts'
import { unary } from './cri-calls.ts'

/** The calls of RuntimeService that give the URL of a session. */
export class StreamUrlClient {
  readonly #client: RuntimeServiceClient

  constructor(client: RuntimeServiceClient) {
    this.#client = client
  }

  async exec(id: string, cmd: readonly string[], streams: Omit<ExecRequest, 'cmd' | 'container_id'>): Promise<string> {
    const request = { container_id: id, cmd: [...cmd], ...streams }
    return (await unary<{ url: string }>({}, (o, done) => this.#client.Exec(request, o, done))).url
  }

  async attach(id: string, streams: Omit<AttachRequest, 'container_id'>): Promise<string> {
    const request = { container_id: id, ...streams }
    return (await unary<{ url: string }>({}, (o, done) => this.#client.Attach(request, o, done))).url
  }

  async portForward(sandboxId: string, ports: readonly number[] = []): Promise<string> {
    const request = { pod_sandbox_id: sandboxId, port: [...ports] }
    return (await unary<{ url: string }>({}, (o, done) => this.#client.PortForward(request, o, done))).url
  }
}
