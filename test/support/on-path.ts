import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** The program of that name, if there is one. @param path where to look, as PATH has it. */
export function onPath(program: string, path = process.env['PATH'] ?? ''): string | undefined {
  return path
    .split(delimiter)
    .map((directory) => join(directory, program))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}
