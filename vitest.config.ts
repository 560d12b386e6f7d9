import { defineConfig } from 'vitest/config'

/** Tests that use the machine (namespaces, CNI, an OCI runtime): as root, one file after the other, with time to wait. */
function machine(name: string, groupOrder: number, testTimeout: number) {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      globalSetup: ['scripts/vitest-build.mjs', 'scripts/vitest-root.mjs'],
      fileParallelism: false,
      sequence: { groupOrder },
      testTimeout,
      hookTimeout: testTimeout,
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
        },
      },
      machine('integration', 1, 60_000),
      machine('recovery', 2, 120_000),
      machine('fault', 3, 120_000),
      machine('conformance', 4, 600_000),
    ],
  },
})
