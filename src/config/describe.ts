import { z } from 'zod'
import { isReloaded } from './changed-keys.ts'
import { settingsSchema } from './schema.ts'

/** A key of the configuration file. */
export interface KeyDescription {
  readonly name: string
  readonly description: string
  /** The default as the file has it; undefined for a key that must be given. */
  readonly byDefault: unknown
  /** Whether a reload applies it (of a remote sandboxer: of one that is new); others need a restart. */
  readonly isReloaded: boolean
}

/** A table of the configuration file; `name` is `''` for the keys that stand before all tables. */
export interface SectionDescription {
  readonly name: string
  readonly description: string
  readonly keys: readonly KeyDescription[]
  /** For a table of named tables (`[runtimes.NAME]`): those that are there by default, with the keys that differ. */
  readonly entries?: Readonly<Record<string, Readonly<Record<string, unknown>>>>
}

/** Everything that the configuration file may say, in the order of the schema. */
export function describeConfig(): SectionDescription[] {
  const top: KeyDescription[] = []
  const sections: SectionDescription[] = []
  for (const [name, schema] of Object.entries(settingsSchema.shape)) {
    const description = schema.description ?? ''
    const table = schema instanceof z.ZodPrefault ? schema.unwrap() : undefined
    if (table instanceof z.ZodRecord) {
      const { shape } = table.valueType as z.ZodObject
      const entries = schema.parse(undefined) as Record<string, Record<string, unknown>>
      sections.push({ name, description, keys: describeKeys(shape, `${name}.NAME.`), entries })
    } else if (table instanceof z.ZodObject)
      sections.push({ name, description, keys: describeKeys(table.shape, `${name}.`) })
    else top.push(describeKey(name, schema, ''))
  }
  return [{ name: '', description: '', keys: top }, ...sections]
}

function describeKeys(shape: Readonly<Record<string, z.core.$ZodType>>, table: string): KeyDescription[] {
  return Object.entries(shape).map(([name, schema]) => describeKey(name, schema as z.ZodType, table))
}

function describeKey(name: string, schema: z.ZodType, table: string): KeyDescription {
  return {
    name,
    description: schema.description ?? '',
    byDefault: schema.safeParse(undefined).data,
    isReloaded: isReloaded(`${table}${name}`, new Map()),
  }
}
