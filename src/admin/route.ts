import { CodedError } from '../core/errors.ts'

/** One request, as its route gets it. */
export interface AdminRequest {
  /** What stands for the `*` of the route; `''` without. */
  readonly parameter: string
  readonly query: URLSearchParams
  /** What the JSON of the body says; undefined when there is none. */
  readonly body: unknown
  /** Aborts when the client goes away, and when the time is over. */
  readonly signal: AbortSignal
}

export type Answer =
  | { readonly json: unknown }
  | { readonly text: string; readonly contentType: string }
  /** One JSON object a line, for as long as there are some and the client reads them. */
  | { readonly lines: AsyncIterable<unknown> }

export interface Route {
  /** What the answer may take; 30 s by default. Of a stream, to its beginning. */
  readonly timeoutMs?: number
  /** Whether its answer goes on: its signal aborts only when the client goes away. */
  readonly isStream?: boolean
  answer(request: AdminRequest): Promise<Answer>
}

/** By method and path, as `GET /v1/status`; a path may end with `/*`, which stands for one part or more. */
export type Routes = Readonly<Record<string, Route>>

/** @throws CodedError `NotFound` for what there is not, `InvalidArgument` for a path that cannot be decoded. */
export function findRoute(routes: Routes, method: string, path: string): { route: Route; parameter: string } {
  const wanted = `${method} ${path}`
  const exact = Object.hasOwn(routes, wanted) ? routes[wanted] : undefined
  if (exact) return { route: exact, parameter: '' }
  for (const [name, route] of Object.entries(routes)) {
    const prefix = name.slice(0, -1)
    if (!name.endsWith('/*') || !wanted.startsWith(prefix) || wanted === prefix) continue
    try {
      return { route, parameter: decodeURIComponent(wanted.slice(prefix.length)) }
    } catch (error) {
      throw new CodedError('InvalidArgument', `path: ${path} cannot be decoded`, { cause: error })
    }
  }
  throw new CodedError('NotFound', `${wanted}: this sandboxerd has nothing of that name`)
}
