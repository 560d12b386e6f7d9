import { sleep } from './deadline.ts'
import { CodedError } from './errors.ts'

type Action =
  | { readonly kind: 'kill' }
  | { readonly kind: 'hang' }
  | { readonly kind: 'error'; readonly message: string }
  | { readonly kind: 'delay'; readonly ms: number }

interface Rule {
  readonly action: Action
  left: number
}

const RULE = /^(?:(\d+)\*)?(kill|hang|error\(([^)]*)\)|delay\((\d+)\))$/

/**
 * Places at which a test can stop, fail or delay the daemon. Without rules a hit costs one look-up.
 *
 * Rules: `NAME=[COUNT*]ACTION` separated by `;`, where ACTION is `kill` (SIGKILL to ourselves), `hang` (until the
 * signal aborts), `error(MESSAGE)` or `delay(MS)`. Without COUNT a rule holds for every hit.
 */
export class Failpoints {
  readonly #rules = new Map<string, Rule>()

  /** @throws CodedError `InvalidArgument` that quotes the rule that cannot be read. */
  constructor(rules: string) {
    for (const text of rules.split(';').map((rule) => rule.trim())) {
      if (text === '') continue
      const equals = text.indexOf('=')
      const match = RULE.exec(text.slice(equals + 1))
      if (equals < 1 || !match) throw new CodedError('InvalidArgument', `failpoint ${text}: not NAME=[COUNT*]ACTION`)
      this.#rules.set(text.slice(0, equals), {
        action: parseAction(match),
        left: match[1] === undefined ? Number.POSITIVE_INFINITY : Number(match[1]),
      })
    }
  }

  async hit(name: string, signal?: AbortSignal): Promise<void> {
    const rule = this.#rules.get(name)
    if (!rule || rule.left <= 0) return
    rule.left--
    switch (rule.action.kind) {
      case 'kill':
        process.kill(process.pid, 'SIGKILL')
        return
      case 'hang':
        return sleep(0x7fffffff, signal)
      case 'delay':
        return sleep(rule.action.ms, signal)
      case 'error':
        throw new CodedError('Internal', `failpoint ${name}: ${rule.action.message}`)
    }
  }
}

function parseAction(match: RegExpExecArray): Action {
  if (match[2] === 'kill' || match[2] === 'hang') return { kind: match[2] }
  if (match[4] !== undefined) return { kind: 'delay', ms: Number(match[4]) }
  return { kind: 'error', message: match[3] ?? '' }
}
