import { defineConfig } from 'vitest/config'
import { slowed } from './test/support/slowness.ts'

/** Tests that use the machine (namespaces, CNI, an OCI runtime): as root, one file after the other, with time to wait. */
function machine(name: string, groupOrder: number, testTimeout: number) {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      globalSetup: ['scripts/vitest-build.mjs', 'scripts/vitest-root.mjs'],
      fileParallelism: false,
      sequence: { groupOrder },
      setupFiles: ['test/support/slowness-setup.ts'],
      testTimeout: slowed(testTimeout),
      hookTimeout: slowed(testTimeout),
    },
  }
}

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          // Worker threads run compiled code, also in unit tests.
          globalSetup: ['scripts/vitest-build.mjs'],
          sequence: { groupOrder: 0 },
          // A limit for what hangs; what takes long on a busy machine does not fail.
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      machine('integration', 1, 60_000),
      machine('recovery', 2, 120_000),
      machine('fault', 3, 120_000),
      machine('conformance', 4, 600_000),
      machine('system', 5, 600_000),
    ],
  },
})
