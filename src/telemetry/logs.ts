import type { DestinationStream } from 'pino'
import type { LogConfig } from '../config/config.ts'
import { CodedError } from '../core/errors.ts'
import { isLogLevel, isLogRoom, LOG_LEVELS, LOG_ROOMS, type LogLevel, type LogRoom } from '../core/log-rooms.ts'
import { createLogger, type Logger } from './logger.ts'

/** The name of the level of all rooms that have none of their own. */
const ALL = ''

/** The loggers of the rooms of the daemon, and their levels, which can be changed while it runs. */
export class Logs {
  readonly #rooms: ReadonlyMap<LogRoom, Logger>
  readonly #own = new Map<LogRoom, LogLevel>()
  #ofAll: LogLevel
  #context: () => Record<string, string> = () => ({})

  /** @throws CodedError `InvalidArgument` for a room that there is not. */
  constructor(config: LogConfig, destination?: DestinationStream) {
    const root = createLogger(config, destination, () => this.#context())
    this.#ofAll = config.level
    this.#rooms = new Map(LOG_ROOMS.map((room) => [room, root.child({ module: room })]))
    this.setLevels(config.levels)
  }

  /** The logger of a room. Its children, and theirs, have its level at every moment: they must be given none. */
  of(room: LogRoom): Logger {
    const logger = this.#rooms.get(room)
    if (!logger) throw unknownRoom(room)
    return logger
  }

  /** Has every line say what `context` says at that moment, in an object that is made anew each time. */
  setContext(context: () => Record<string, string>): void {
    this.#context = context
  }

  /** The level of every room, `''` for one that has that of all; and under `''` that of all. `setLevels` takes it back. */
  levels(): Record<string, LogLevel | ''> {
    const ofRooms = LOG_ROOMS.map((room) => [room, this.#own.get(room) ?? ''] as const)
    return { [ALL]: this.#ofAll, ...Object.fromEntries(ofRooms) }
  }

  /**
   * Changes levels, at once for all loggers that there are: by room, or `''` for that of all. The level `''` takes the own
   * level of a room back.
   * @throws CodedError `InvalidArgument` that names the rooms or levels that there are; nothing has changed then.
   */
  setLevels(levels: Readonly<Record<string, string>>): void {
    const changes = Object.entries(levels)
    for (const [room, level] of changes) {
      if (room !== ALL && !isLogRoom(room)) throw unknownRoom(room)
      if (isLogLevel(level) || (level === '' && room !== ALL)) continue
      const what = room === ALL ? 'the log level' : `the log level of ${room}`
      throw new CodedError(
        'InvalidArgument',
        `set ${what} to ${JSON.stringify(level)}: must be ${LOG_LEVELS.join(', ')}`,
      )
    }
    for (const [room, level] of changes) {
      if (!isLogRoom(room)) this.#ofAll = level as LogLevel
      else if (isLogLevel(level)) this.#own.set(room, level)
      else this.#own.delete(room)
    }
    for (const [room, logger] of this.#rooms) logger.level = this.#own.get(room) ?? this.#ofAll
  }

  /**
   * Sets the levels that a configuration has, for all rooms.
   * @throws CodedError as {@link setLevels}.
   */
  configure({ level, levels }: Pick<LogConfig, 'level' | 'levels'>): void {
    const none = Object.fromEntries(LOG_ROOMS.map((room) => [room, '']))
    this.setLevels({ [ALL]: level, ...none, ...levels })
  }
}

function unknownRoom(room: string): CodedError {
  return new CodedError(
    'InvalidArgument',
    `set the log level of ${JSON.stringify(room)}: there is no such room; rooms are ${LOG_ROOMS.join(', ')}`,
  )
}
