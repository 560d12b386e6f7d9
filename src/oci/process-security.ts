import type { Capabilities, DeviceRule } from './spec.ts'

/** Files of the node that /proc and /sys would show to anyone: kernel memory, keys, hardware, timing side channels. */
export const MASKED_PATHS: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
]

/** Files through which root in a container could change the node. */
export const READONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
]

/**
 * The same set as bounding, effective and permitted. Inheritable and ambient stay empty always: with them a program with
 * file capabilities, or any program of an ordinary user, would get what the process itself was denied (CVE-2022-27652).
 */
export function capabilitySets(names: readonly string[]): Capabilities {
  return { bounding: names, effective: names, permitted: names, inheritable: [], ambient: [] }
}

/** Every device for a privileged process, otherwise none; the runtimes add /dev/null and its like themselves. */
export function deviceRules(privileged: boolean): readonly DeviceRule[] {
  return [{ allow: privileged, access: 'rwm' }]
}
