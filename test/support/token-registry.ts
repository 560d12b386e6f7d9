import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Registry } from './registry.ts'

/** A registry that gives what another one has to those who bring a token for which they have shown an identity token. */
export interface TokenRegistry extends AsyncDisposable {
  readonly address: string
}

/** @param identityToken what clients must show (docker's OAuth 2 flow: `grant_type=refresh_token`). */
export async function startTokenRegistry(behind: Registry, identityToken: string): Promise<TokenRegistry> {
  const access = `access-to-${behind.address}`
  const answer = async (request: IncomingMessage, response: ServerResponse, self: string): Promise<void> => {
    if (request.method === 'POST' && request.url === '/token') {
      let body = ''
      for await (const chunk of request) body += String(chunk)
      const shown = new URLSearchParams(body).get('refresh_token')
      response.writeHead(shown === identityToken ? 200 : 401, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ access_token: access, token_type: 'Bearer', expires_in: 60 }))
    } else if (request.headers.authorization === `Bearer ${access}`) {
      const headers = { accept: request.headers.accept ?? '*/*' }
      const given = await fetch(`http://${behind.address}${request.url}`, { headers })
      response.writeHead(given.status, { 'content-type': given.headers.get('content-type') ?? '' })
      response.end(Buffer.from(await given.arrayBuffer()))
    } else {
      response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${self}/token",service="tests"` })
      response.end()
    }
  }
  const server = createServer((request, response) => {
    answer(request, response, address).catch((error: unknown) => response.destroy(error as Error))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    address,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}
