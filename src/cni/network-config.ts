import { z } from 'zod'
import { CodedError } from '../core/errors.ts'

/** A JSON object whose members belong to somebody else: passed on as it came. */
export type JsonObject = Readonly<Record<string, unknown>>

/** One plugin of a network, verbatim; only the members below mean something to the runtime. */
export type PluginConfig = JsonObject & {
  readonly type: string
  readonly capabilities?: Readonly<Record<string, boolean>>
}

/** A network as its file describes it (CNI 1.1.0, section 1). Plain JSON. */
export interface NetworkConfigList {
  readonly name: string
  /** `cniVersion` and `cniVersions` together, as written; may name versions that nobody here speaks. */
  readonly cniVersions: readonly string[]
  readonly disableCheck: boolean
  readonly disableGc: boolean
  readonly plugins: readonly PluginConfig[]
}

/** What a file said: the network, and whether plugins in the folder of its name are to be appended. */
export interface ParsedNetwork {
  readonly config: NetworkConfigList
  readonly loadOnlyInlinedPlugins: boolean
}

// Go's libcni accepts the words as well as the values.
const flag = z
  .union([
    z.boolean(),
    z
      .string()
      .toLowerCase()
      .pipe(z.enum(['true', 'false'])),
  ])
  .optional()
  .transform((value) => value === true || value === 'true')

/** The name of a plugin's program. It becomes a file name: nothing that leads out of the plugin directories. */
export const pluginTypePattern = /^[A-Za-z0-9_][A-Za-z0-9_.+-]*$/

const pluginSchema = z.looseObject({
  type: z.string().regex(pluginTypePattern, 'not the name of a program'),
  capabilities: z.record(z.string(), z.boolean()).optional(),
})

const networkSchema = z.looseObject({
  name: z
    .string('missing')
    .max(200)
    .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/, 'must be letters, digits, _ . - and begin with a letter or digit'),
  cniVersion: z.string().optional(),
  cniVersions: z.array(z.string()).optional(),
  disableCheck: flag,
  disableGC: flag,
  loadOnlyInlinedPlugins: flag,
})

/**
 * Reads the text of a network configuration: a list (`plugins`) or, when there is a `type`, a single plugin.
 * A list without `plugins` has none yet: they may be in the folder of the network's name.
 *
 * @throws CodedError `InvalidArgument` that says which member is wrong.
 */
export function parseNetworkConfig(text: string): ParsedNetwork {
  const raw = parseJsonObject(text)
  const head = check(networkSchema, raw)
  const isSingle = Object.hasOwn(raw, 'type') && !Object.hasOwn(raw, 'plugins')
  const plugins = isSingle ? [raw] : (raw['plugins'] ?? [])
  if (!Array.isArray(plugins)) throw invalid('plugins: not a list')
  const versions = [...(head.cniVersion === undefined ? [] : [head.cniVersion]), ...(head.cniVersions ?? [])]
  return {
    config: {
      name: head.name,
      cniVersions: [...new Set(versions)],
      disableCheck: head.disableCheck,
      disableGc: head.disableGC,
      plugins: plugins.map((plugin, index) => checkPlugin(plugin, `plugins[${index}]`)),
    },
    loadOnlyInlinedPlugins: isSingle || head.loadOnlyInlinedPlugins,
  }
}

/** Reads a file of a network's plugin folder: one plugin. @throws CodedError `InvalidArgument`. */
export function parsePluginConfig(text: string): PluginConfig {
  return checkPlugin(parseJsonObject(text), '')
}

/** @throws CodedError `InvalidArgument` when `text` is not a JSON object. */
export function parseJsonObject(text: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new CodedError('InvalidArgument', 'not JSON', { cause: error })
  }
  if (!isJsonObject(value)) throw invalid('not a JSON object')
  return value
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function checkPlugin(plugin: unknown, at: string): PluginConfig {
  check(pluginSchema, plugin, at)
  // The schema only looks: what is kept is the object itself, so that no member is lost or reordered.
  return plugin as PluginConfig
}

function check<T extends z.ZodType>(schema: T, value: unknown, at = ''): z.output<T> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const problems = parsed.error.issues.map((issue) => {
    const path = [at, ...issue.path].filter((part) => part !== '').join('.')
    return path ? `${path}: ${issue.message}` : issue.message
  })
  throw invalid(problems.join('; '))
}

function invalid(why: string): CodedError {
  return new CodedError('InvalidArgument', why)
}
