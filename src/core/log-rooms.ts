/** The log levels, from the most talkative to the quietest. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const

export type LogLevel = (typeof LOG_LEVELS)[number]

/** What log lines have as their `module`, and what levels may be set for. */
export const LOG_ROOMS = [
  'admin',
  'cni',
  'container',
  'daemon',
  'doctor',
  'executor',
  'grpc',
  'image',
  'sandbox',
  'shim',
  'stats',
  'streaming',
  'telemetry',
] as const

export type LogRoom = (typeof LOG_ROOMS)[number]

export function isLogLevel(text: string): text is LogLevel {
  return (LOG_LEVELS as readonly string[]).includes(text)
}

export function isLogRoom(text: string): text is LogRoom {
  return (LOG_ROOMS as readonly string[]).includes(text)
}
