import { createConnection } from 'node:net'
import { errnoOf } from '../../core/errors.ts'
import type { TaskEndpoint } from '../types.ts'
import { parseTaskEndpoint } from './task-address.ts'

/**
 * Whether nobody serves an endpoint any more: its socket is gone, or refuses. One that accepts, or hangs, is served. The
 * socket of a shim is made once: who has refused is dead.
 */
export async function isEndpointDead(endpoint: TaskEndpoint, timeoutMs: number): Promise<boolean> {
  const { path } = parseTaskEndpoint(endpoint).target
  const socket = createConnection(path)
  socket.setTimeout(timeoutMs)
  try {
    return await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(false))
      socket.once('timeout', () => resolve(false))
      // Stays: an error that comes later has nobody else to hear it.
      socket.on('error', (error) => resolve(['ECONNREFUSED', 'ENOENT'].includes(errnoOf(error) ?? '')))
    })
  } finally {
    socket.destroy()
  }
}
