import { constants } from 'node:os'
import { z } from 'zod'
import { CodedError } from '../core/errors.ts'

const MAX_PROFILE_BYTES = 1024 * 1024
const UINT64_MAX = 2n ** 64n - 1n

const action = z.enum([
  'SCMP_ACT_KILL',
  'SCMP_ACT_KILL_PROCESS',
  'SCMP_ACT_KILL_THREAD',
  'SCMP_ACT_TRAP',
  'SCMP_ACT_ERRNO',
  'SCMP_ACT_TRACE',
  'SCMP_ACT_ALLOW',
  'SCMP_ACT_LOG',
  'SCMP_ACT_NOTIFY',
])
const operator = z.enum([
  'SCMP_CMP_NE',
  'SCMP_CMP_LT',
  'SCMP_CMP_LE',
  'SCMP_CMP_EQ',
  'SCMP_CMP_GE',
  'SCMP_CMP_GT',
  'SCMP_CMP_MASKED_EQ',
])
const flag = z.enum([
  'SECCOMP_FILTER_FLAG_TSYNC',
  'SECCOMP_FILTER_FLAG_LOG',
  'SECCOMP_FILTER_FLAG_SPEC_ALLOW',
  'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV',
])
const architecture = z.string().regex(/^SCMP_ARCH_[A-Z0-9_]+$/)
const syscallName = z.string().regex(/^[a-z0-9_]+$/i)
const errnoRet = z.int().min(0).max(0xffff).optional()
/** containers-common writes the number and its name; a name alone is enough. */
const errnoName = z.enum(Object.keys(constants.errno)).optional()

const uint64 = z
  .union([z.int().min(0), z.string().regex(/^[0-9]{16,20}$/)])
  .transform(BigInt)
  .refine((value) => value <= UINT64_MAX)

const argument = z.object({
  index: z.int().min(0).max(5),
  value: uint64,
  valueTwo: uint64.optional(),
  op: operator,
})

const condition = z
  .object({
    caps: z.array(z.string()).optional(),
    arches: z.array(z.string()).optional(),
    minKernel: z
      .string()
      .regex(/^[0-9]+\.[0-9]+$/)
      .optional(),
  })
  .optional()

const rule = z
  .object({
    names: z.array(syscallName).optional(),
    /** The old form: one system call per rule. */
    name: syscallName.optional(),
    action,
    errnoRet,
    errno: errnoName,
    args: z.array(argument).optional(),
    includes: condition,
    excludes: condition,
  })
  .refine((value) => (value.names?.length ?? 0) > 0 || value.name !== undefined, { error: 'names no system call' })

const profile = z
  .object({
    defaultAction: action,
    defaultErrnoRet: errnoRet,
    defaultErrno: errnoName,
    architectures: z.array(architecture).optional(),
    archMap: z.array(z.object({ architecture, subArchitectures: z.array(architecture).optional() })).optional(),
    flags: z.array(flag).optional(),
    listenerPath: z.string().startsWith('/').optional(),
    listenerMetadata: z.string().optional(),
    syscalls: z.array(rule).optional(),
  })
  .refine((value) => !(value.architectures?.length && value.archMap?.length), {
    error: 'has both architectures and archMap',
  })
  .refine((value) => value.listenerPath !== undefined || !usesNotify(value), {
    error: 'SCMP_ACT_NOTIFY needs a listenerPath',
  })

/**
 * A seccomp profile as it is on disk: either the OCI `linux.seccomp` object or the form that docker and
 * containers-common write, whose rules depend on capabilities, architecture and kernel.
 */
export type SeccompProfile = z.infer<typeof profile>
export type SeccompRule = z.infer<typeof rule>
export type SeccompCondition = z.infer<typeof condition>

/**
 * Reads the text of a profile; `source` names it in errors.
 *
 * @throws CodedError `InvalidArgument` when it is larger than 1 MiB, no JSON, or has an action, operator, flag or number
 * that is not known: a rule that a runtime might skip protects nobody.
 */
export function parseSeccompProfile(text: string, source: string): SeccompProfile {
  const fail = (why: string, cause?: unknown): CodedError =>
    new CodedError('InvalidArgument', `read seccomp profile ${source}: ${why}`, cause === undefined ? {} : { cause })
  if (Buffer.byteLength(text) > MAX_PROFILE_BYTES) throw fail(`larger than ${MAX_PROFILE_BYTES} bytes`)
  let json: unknown
  try {
    // Go programs write null for a list that is not there.
    json = JSON.parse(quoteLargeNumbers(text), (_, value: unknown) => value ?? undefined)
  } catch (error) {
    throw fail('not JSON', error)
  }
  const result = profile.safeParse(json)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw fail(`${issue?.path.join('.') || 'profile'}: ${issue?.message ?? 'not valid'}`)
}

function usesNotify(value: { defaultAction: string; syscalls?: { action: string }[] | undefined }): boolean {
  return [value, ...(value.syscalls ?? [])].some(
    (item) => ('action' in item ? item.action : item.defaultAction) === 'SCMP_ACT_NOTIFY',
  )
}

/** Arguments are 64 bits wide, and JSON.parse would round them: a mask of all ones would become 2^64. */
function quoteLargeNumbers(text: string): string {
  return text.replaceAll(/"(value|valueTwo)"(\s*:\s*)([0-9]{16,})/g, '"$1"$2"$3"')
}
