const RUNC_SHIM = /^containerd-shim-runc-v\d+$/

/**
 * The file name of the containerd shim of a runtime type, by containerd's rule: the last two parts of `io.containerd.runc.v2`
 * make `containerd-shim-runc-v2`. An absolute path stands for itself. Undefined for what names no shim.
 */
export function shimName(runtimeType: string): string | undefined {
  if (runtimeType.startsWith('/')) return runtimeType.slice(runtimeType.lastIndexOf('/') + 1) || undefined
  const parts = runtimeType.split('.')
  if (parts.length < 3 || !parts.every((part) => /^[A-Za-z0-9]+$/.test(part))) return undefined
  return `containerd-shim-${parts.slice(-2).join('-')}`
}

/** Whether the shim of a runtime type runs OCI runtimes that take the arguments of runc. */
export function isRuncShim(runtimeType: string): boolean {
  return RUNC_SHIM.test(shimName(runtimeType) ?? '')
}
