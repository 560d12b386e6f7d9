/** The steps of RunPodSandbox that have failpoints before and after them. */
export const RUN_STEPS: readonly string[] = [
  'ensureSandboxImageExists',
  'updateSandboxConfig',
  'prepareSandboxCheckpoint',
  'recordIntent',
  'prepareSandboxKey',
  'createSandbox',
  'writeSandboxFiles',
  'setupSandboxNetwork',
  'updateNetworkSettings',
  'createController',
  'startController',
  'save',
]

/** The failpoints before and after what is named. */
export function beforeAndAfter(prefix: string, names: readonly string[]): string[] {
  return names.flatMap((name) => [`${prefix}.${name}.before`, `${prefix}.${name}.after`])
}

/** The steps of CreateContainer that have failpoints before and after them. */
export const CREATE_STEPS: readonly string[] = [
  'updateContainerConfig',
  'recordIntent',
  'createDirectories',
  'prepareLog',
  'writeCheckpoint',
  'restoreFiles',
  'mountRootfs',
  'writeBundle',
  'createProcess',
  'save',
]

/** What a container owns, in the ledger's words, in the order in which it is released. */
export const CONTAINER_KINDS: readonly string[] = ['container', 'overlay', 'directory']
