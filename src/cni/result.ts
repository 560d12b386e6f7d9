import { z } from 'zod'
import { CodedError } from '../core/errors.ts'
import { isCidr } from './capabilities.ts'
import type { JsonObject } from './network-config.ts'
import { parseJsonObject } from './network-config.ts'
import { isAtLeast } from './version.ts'

// `null` where Go writes an empty list.
const strings = z
  .array(z.string())
  .nullish()
  .transform((value) => value ?? [])
const list = <T extends z.ZodType>(item: T) =>
  z
    .array(item)
    .nullish()
    .transform((value) => value ?? [])

const resultSchema = z.looseObject({
  cniVersion: z.string().optional(),
  interfaces: list(
    z.object({
      name: z.string().default(''),
      mac: z.string().default(''),
      sandbox: z.string().default(''),
      mtu: z.int().nonnegative().optional(),
    }),
  ),
  ips: list(
    z.object({
      address: z.string().refine(isCidr, 'not an address with prefix length'),
      gateway: z.string().optional(),
      interface: z.int().nullish(),
    }),
  ),
  routes: list(z.looseObject({ dst: z.string(), gw: z.string().optional() })),
  dns: z
    .object({ nameservers: strings, domain: z.string().default(''), search: strings, options: strings })
    .nullish()
    .transform((value) => value ?? { nameservers: [], domain: '', search: [], options: [] }),
})

export interface CniInterface {
  readonly name: string
  readonly mac: string
  /** The netns path; `''` for interfaces on the host. */
  readonly sandbox: string
  readonly mtu?: number
}

export interface CniIp {
  /** With prefix length: `10.88.0.5/16`. */
  readonly address: string
  readonly gateway?: string
  /** Index into {@link CniResult.interfaces}. */
  readonly interface?: number
}

/** The result of an ADD of any version from 0.3.0 to 1.1.0 in one shape. Plain JSON: it is stored and read again. */
export interface CniResult {
  readonly cniVersion: string
  readonly interfaces: readonly CniInterface[]
  /** In the plugin's order. Addresses without gateway are kept. */
  readonly ips: readonly CniIp[]
  readonly routes: readonly (JsonObject & { readonly dst: string; readonly gw?: string })[]
  readonly dns: {
    readonly nameservers: readonly string[]
    readonly domain: string
    readonly search: readonly string[]
    readonly options: readonly string[]
  }
  /** What the plugin printed: the `prevResult` of CHECK and DEL. */
  readonly raw: JsonObject
}

/**
 * Reads what a plugin printed on ADD. `version` is the one it was asked in; a plugin that answers in another one that
 * is known here is translated, as CHECK and DEL hand the result back to plugins that expect `version`.
 *
 * @throws CodedError `Internal` when it is not a CNI result; no address is made up or dropped.
 */
export function parseResult(stdout: string, version: string): CniResult {
  const fail = (why: string, cause?: unknown): CodedError =>
    new CodedError('Internal', `the result is not a CNI result: ${why}`, cause === undefined ? undefined : { cause })
  let object: JsonObject
  try {
    object = parseJsonObject(stdout)
  } catch (error) {
    throw fail('it is not a JSON object', error)
  }
  const parsed = resultSchema.safeParse(object)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw fail(`${issue?.path.join('.')}: ${issue?.message}`)
  }
  const { cniVersion = version, interfaces, ips, routes, dns } = parsed.data
  if (!isAtLeast(cniVersion, '0.3.0')) throw fail(`its cniVersion is ${JSON.stringify(cniVersion)}`)
  return {
    cniVersion: version,
    interfaces: interfaces.map(({ mtu, ...rest }) => ({ ...rest, ...(mtu === undefined ? {} : { mtu }) })),
    ips: ips.map(({ address, gateway, interface: index }) => ({
      address,
      ...(gateway ? { gateway } : {}),
      ...(typeof index === 'number' ? { interface: index } : {}),
    })),
    routes: routes.map(({ gw, ...rest }) => ({ ...rest, ...(gw ? { gw } : {}) })),
    dns,
    raw: cniVersion === object['cniVersion'] && cniVersion === version ? object : translate(object, version),
  }
}

/**
 * The pod's own addresses without prefix length: those on `ifName` first, then those of no named interface, then those
 * of its other interfaces, each in the plugin's order. Addresses that the plugin put on host interfaces are not the
 * pod's.
 */
export function sandboxIps(result: CniResult, ifName: string): string[] {
  const rank = (ip: CniIp): number => {
    const owner = ip.interface === undefined ? undefined : result.interfaces[ip.interface]
    if (!owner) return 1
    if (owner.sandbox === '') return -1
    return owner.name === ifName ? 0 : 2
  }
  const ranked = result.ips.map((ip) => ({ address: ip.address.split('/')[0] ?? '', rank: rank(ip) }))
  return ranked
    .filter((ip) => ip.rank >= 0)
    .sort((a, b) => a.rank - b.rank)
    .map((ip) => ip.address)
}

/** Between 0.3 and 1.1 the one thing that an older reader misses is the family of an address. */
function translate(object: JsonObject, version: string): JsonObject {
  const ips = object['ips']
  if (isAtLeast(version, '1.0.0') || !Array.isArray(ips)) return { ...object, cniVersion: version }
  const withFamily = ips.map((ip: { address: string }) => ({ version: ip.address.includes(':') ? '6' : '4', ...ip }))
  return { ...object, cniVersion: version, ips: withFamily }
}
