import { type DestinationStream, pino, type Logger as PinoLogger } from 'pino'
import type { LogConfig } from '../config/config.ts'
import { errorMessage } from '../core/errors.ts'
import { REDACTED, redactText } from '../core/redact-text.ts'
import { LineOutput } from './line-output.ts'
import { prettyLine } from './pretty-line.ts'
import { redact, SECRET_FIELDS } from './redact.ts'

/**
 * What the parts of the daemon log with: that of their room (`logs.ts`), or a child of it.
 * An error goes into the field `err`.
 */
export type Logger = PinoLogger

const secretSerializers = Object.fromEntries([...SECRET_FIELDS].map((name) => [name, () => REDACTED]))

const MAX_WAITING_BYTES = 4 * 1024 * 1024

/**
 * Makes the root logger. Lines go to `destination`, by default standard output: a slow reader slows nothing, and what was
 * logged before an exit is written. A failing output (disk full, reader gone) is reported once as a process warning and
 * ends nothing. Each line has the fields of a new object that `context` makes, too. Fields that hold secrets are redacted (`redact.ts`), of what a child is bound to only those at the top.
 */
export function createLogger(
  { level, format }: Pick<LogConfig, 'level' | 'format'>,
  destination?: DestinationStream,
  context: () => Record<string, string> = () => ({}),
): Logger {
  const output =
    destination ??
    new LineOutput({
      fd: 1,
      maxWaitingBytes: MAX_WAITING_BYTES,
      onDropped: (lines) => logger.warn({ lines }, 'log lines were dropped'),
      onError: (error) => process.emitWarning(`write the log to standard output: ${errorMessage(error)}`),
    })
  const stream = format === 'pretty' ? { write: (line: string) => output.write(prettyLine(line)) } : output
  const logger: Logger = pino(
    {
      level,
      mixin: context,
      // The journal knows our pid and host already.
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      // What a child is bound to is formatted by nothing but these.
      serializers: { ...secretSerializers, err: errorRecord },
      // pino's own redaction by paths with wildcards costs 45 µs a line, six times the line itself.
      formatters: { level: (label) => ({ level: label }), log: redact },
    },
    stream,
  )
  return logger
}

/** What is written of an error. Not its other properties: errors of libraries carry whole environments and requests. */
function errorRecord(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const code = 'code' in error ? error.code : undefined
  return {
    type: error.name,
    code,
    message: redactText(errorMessage(error)),
    stack: error.stack && redactText(error.stack),
  }
}
