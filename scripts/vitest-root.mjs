/** Says at once, instead of failing test by test, that these tests need root. */
export function setup() {
  if (process.getuid?.() !== 0) throw new Error('these tests make namespaces, mounts and cgroups: run them as root')
}
