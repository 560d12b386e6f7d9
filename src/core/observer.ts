import type { ErrorCode } from './errors.ts'

/** A header of a caller, by its lower-case name. */
export type HeaderOf = (name: string) => string | undefined

/**
 * A piece of work that is measured. All its texts are few, since they become metrics; but for `id`, the sandbox or
 * container, which is for traces and logs alone.
 */
export type Activity = { readonly id?: string } & (
  | {
      /** One call of a client of ours. */
      readonly kind: 'rpc'
      /** The method: `RunPodSandbox`. */
      readonly name: string
      /** `runtime.v1.RuntimeService` */
      readonly service: string
      /** Asked for what W3C Trace Context says of the caller: `traceparent`, `tracestate`. */
      readonly header: HeaderOf
    }
  | {
      /** One operation on a sandbox, or on a container, from when it was asked for: `run`, `container-stop`. */
      readonly kind: 'operation'
      readonly name: string
      /** The operation on the same id that it waits for; undefined when it is its turn. */
      readonly waitsFor?: () => string | undefined
    }
  | {
      /** One named step of an operation: `setupSandboxNetwork`; or of one that releases things: `release cni`. */
      readonly kind: 'step'
      readonly name: string
      /** As the failpoints have it; `release` of those that any operation may have. */
      readonly operation: string
    }
  | {
      /** One run of a CNI plugin. */
      readonly kind: 'cni'
      /** `ADD` */
      readonly name: string
      readonly plugin: string
    }
  | {
      /** One command of an OCI runtime, or one call to a shim. */
      readonly kind: 'runtime'
      /** `create`, and `Create` of a shim. */
      readonly name: string
      /** The name of the runtime's program; `task` for the Task service of a shim. */
      readonly runtime: string
    }
  | {
      /** One call to a remote sandboxer; but for Wait, which lasts as long as the sandbox. */
      readonly kind: 'sandboxer'
      /** The method: `Start`. */
      readonly name: string
      /** Its name in the configuration. */
      readonly sandboxer: string
    }
  | {
      /** One write to the database, until it is durable. */
      readonly kind: 'store'
      readonly name: 'commit'
    }
  | {
      /** One image that is fetched, for however many callers. */
      readonly kind: 'image'
      readonly name: 'pull'
    }
)

export type ActivityKind = Activity['kind']

/** How an activity ended: `OK`, or the code of what it threw. */
export type Outcome = 'OK' | ErrorCode

/**
 * Is told of all work that takes time, and runs it: metrics, traces and whoever warns of what takes long are observers.
 * One that fails harms no work.
 */
export interface Observer {
  /** Runs the work, and gives back what came of it, unchanged. What runs inside, in whatever turn, belongs to it. */
  run<T>(activity: Activity, work: () => Promise<T>): Promise<T>
  /** The headers that tell a peer which trace this belongs to; none where nobody traces. */
  headers(): Readonly<Record<string, string>>
}

const NO_HEADERS: Readonly<Record<string, string>> = {}

/** Observes nothing. */
export const UNOBSERVED: Observer = { run: (_activity, work) => work(), headers: () => NO_HEADERS }

/**
 * All of them, the first outermost. What one of them throws harms neither the work, which is done once, nor who waits for
 * it: it goes to `onFailure`.
 */
export function observers(all: readonly Observer[], onFailure: (error: unknown) => void = () => undefined): Observer {
  const chain = all.reduceRight(
    (inner, outer) =>
      inner === UNOBSERVED
        ? outer
        : {
            run: (activity, work) => outer.run(activity, () => inner.run(activity, work)),
            headers: () => ({ ...outer.headers(), ...inner.headers() }),
          },
    UNOBSERVED,
  )
  return chain === UNOBSERVED ? UNOBSERVED : harmless(chain, onFailure)
}

function harmless(observer: Observer, onFailure: (error: unknown) => void): Observer {
  return {
    run: async <T>(activity: Activity, work: () => Promise<T>): Promise<T> => {
      let begun: Promise<T> | undefined
      const once = (): Promise<T> => (begun ??= begin(work))
      try {
        await observer.run(activity, once)
      } catch (error) {
        const own = await once().then(
          () => undefined,
          (reason: unknown) => reason,
        )
        if (own !== error) onFailure(error)
      }
      return once()
    },
    headers: () => {
      try {
        return observer.headers()
      } catch (error) {
        onFailure(error)
        return NO_HEADERS
      }
    },
  }
}

/** Whatever it throws at once, it fails with. */
async function begin<T>(work: () => Promise<T>): Promise<T> {
  return work()
}
