import { z } from 'zod'

/** Names and keys of the Container Device Interface, specification 1.1 (SPEC.md); as there, unknown keys are refused. */
const absolutePath = z.string().regex(/^\/[^\p{Cc}]{0,4095}$/u)
const hostId = z
  .int()
  .min(0)
  .max(2 ** 31 - 1)
const deviceNumber = z.int().min(0)
const pairs = z.array(z.string().regex(/^[^=\0]+=[^\0]*$/))

const deviceNode = z.strictObject({
  path: absolutePath,
  hostPath: absolutePath.optional(),
  type: z.enum(['b', 'c', 'u', 'p']).optional(),
  major: deviceNumber.optional(),
  minor: deviceNumber.optional(),
  fileMode: z.int().min(0).max(0o7777).optional(),
  permissions: z
    .string()
    .regex(/^[rwm]{0,3}$/)
    .optional(),
  uid: hostId.optional(),
  gid: hostId.optional(),
})

const mount = z.strictObject({
  hostPath: z.string().min(1),
  containerPath: absolutePath,
  type: z.string().optional(),
  options: z.array(z.string()).optional(),
})

const hook = z.strictObject({
  hookName: z.enum(['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop']),
  path: absolutePath,
  args: z.array(z.string()).optional(),
  env: pairs.optional(),
  timeout: z.int().positive().optional(),
})

const intelRdt = z.strictObject({
  closID: z
    .string()
    .regex(/^[^/\n]+$/)
    .optional(),
  l3CacheSchema: z.string().optional(),
  memBwSchema: z.string().optional(),
  enableCMT: z.boolean().optional(),
  enableMBM: z.boolean().optional(),
})

const containerEdits = z.strictObject({
  env: pairs.optional(),
  deviceNodes: z.array(deviceNode).optional(),
  mounts: z.array(mount).optional(),
  hooks: z.array(hook).optional(),
  additionalGids: z.array(hostId).optional(),
  intelRdt: intelRdt.optional(),
})

const annotations = z.record(z.string(), z.string())
const DEVICE_NAME = '[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?'
const KIND = '[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?/[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?'

/** A file of CDI devices. */
export const cdiSpecSchema = z.strictObject({
  cdiVersion: z.string().regex(/^(?:0\.[3-9]|1\.[01])\.[0-9]+$/),
  kind: z
    .string()
    .max(256)
    .regex(new RegExp(`^${KIND}$`)),
  annotations: annotations.optional(),
  devices: z
    .array(
      z.strictObject({
        name: z.string().regex(new RegExp(`^${DEVICE_NAME}$`)),
        annotations: annotations.optional(),
        containerEdits,
      }),
    )
    .min(1),
  containerEdits: containerEdits.optional(),
})

export type CdiSpec = z.output<typeof cdiSpecSchema>
export type CdiEdits = z.output<typeof containerEdits>
export type CdiDeviceNode = z.output<typeof deviceNode>

const QUALIFIED = new RegExp(`^${KIND}=${DEVICE_NAME}$`)

/** Whether a name is like `vendor.com/class=device`. */
export function isQualifiedName(name: string): boolean {
  return name.length <= 512 && QUALIFIED.test(name)
}
