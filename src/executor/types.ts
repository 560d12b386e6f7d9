/** The command-line program that makes containers (crun, runc, …), as one runtime handler uses it. */
export interface OciRuntime {
  readonly path: string
  /** Its state directory (`--root`). */
  readonly root: string
  /** Whether it hands cgroups to systemd (`--systemd-cgroup`). */
  readonly systemdCgroup: boolean
}

/** One container at the runtime: JSON, and all that it takes to find, stop and delete it, whatever was done of it. */
export interface ContainerRecord {
  readonly id: string
  readonly runtime: OciRuntime
  /** Holds config.json and the monitor's files; owned by whoever made the record. */
  readonly bundleDir: string
  /** As in the OCI spec: a path, or `slice:prefix:name` with systemd. */
  readonly cgroupsPath: string
  /** The ancestors of the cgroup that were not there before, the deepest first. */
  readonly ownedCgroupParents: readonly string[]
}

/** How a process ended. */
export interface ExitStatus {
  /** 0–255; 128 + N for signal N. 255 when unknown. */
  readonly code: number
  readonly atNs: bigint
  /** `Exited` was observed; `Unknown` and `NodeReboot` stand in for a status that nobody could observe. */
  readonly reason: 'Exited' | 'Unknown' | 'NodeReboot'
}
