import fc from 'fast-check'
import { stringify } from 'smol-toml'
import { describe, expect, it } from 'vitest'
import { parseOverride } from '../../../src/config/override.ts'
import { ConfigError, parseConfig } from '../../../src/config/parse.ts'

function problems(toml: string, ...overrides: string[]): readonly string[] {
  try {
    parseConfig(toml, 'test.toml', overrides.map(parseOverride))
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

const noShim = { runtimeType: '', runtimeConfig: '' }

describe('parseConfig: defaults', () => {
  it('needs no key', () => {
    expect(parseConfig('', 'test.toml')).toEqual({
      root: '/var/lib/sandboxerd',
      state: '/run/sandboxerd',
      netnsDir: '/run/netns',
      checkpointKeyFile: '/var/lib/sandboxerd/checkpoint.key',
      defaultRuntimeHandler: 'crun',
      log: { level: 'info', levels: {}, format: 'json' },
      cri: { socket: '/run/sandboxerd/cri.sock', mode: 0o660, group: '' },
      sandboxer: {
        socket: '/run/sandboxerd/sandboxer.sock',
        mode: 0o660,
        group: '',
        runtimeHandler: '',
        frontEndRoot: '',
        frontEndState: '',
        eventsAddress: '',
        createdTtlMs: 600_000,
      },
      admin: { socket: '/run/sandboxerd/admin.sock', mode: 0o600, group: '' },
      metrics: { address: '' },
      tracing: { endpoint: '', sampleRatio: 1 },
      streaming: {
        address: '127.0.0.1',
        port: 0,
        tlsCertFile: '',
        tlsKeyFile: '',
        tlsClientCaFile: '',
        baseUrl: '',
        idleTimeoutMs: 14_400_000,
        streamCreationTimeoutMs: 30_000,
        maxSessions: 1000,
        maxPending: 1000,
      },
      runtimes: {
        crun: { ...noShim, runtime: '/usr/bin/crun', runtimeRoot: '/run/sandboxerd/runtime/crun', sandboxer: 'shim' },
        runc: { ...noShim, runtime: '/usr/sbin/runc', runtimeRoot: '/run/sandboxerd/runtime/runc', sandboxer: 'shim' },
        pinned: {
          ...noShim,
          runtime: '/usr/bin/crun',
          runtimeRoot: '/run/sandboxerd/runtime/pinned',
          sandboxer: 'pinned',
        },
      },
      shims: { warm: 1 },
      sandboxers: {},
      cgroup: { driver: 'cgroupfs' },
      cni: {
        confDir: '/etc/cni/net.d',
        binDirs: ['/opt/cni/bin', '/usr/lib/cni'],
        maxConcurrent: 16,
        reloadIntervalMs: 5000,
      },
      cdi: { specDirs: ['/etc/cdi', '/var/run/cdi'] },
      pause: { binary: '/usr/bin/catatonit', args: ['-P'], stopSignal: 'SIGINT', image: '' },
      conmon: { path: '/usr/bin/conmon', logMaxBytes: 0 },
      seccomp: { defaultProfile: '/usr/share/containers/seccomp.json' },
      images: {
        skopeo: '/usr/bin/skopeo',
        storageTool: '/usr/bin/containers-storage',
        maxConcurrentPulls: 4,
        pullTimeoutMs: 1_800_000,
        minFreeBytes: 512 * 1024 * 1024,
        registriesConf: '',
        certsDir: '',
        policy: '',
      },
      checkpoint: { enabled: false, criu: '/usr/sbin/criu', timeoutMs: 600_000, maxBytes: 16 * 1024 ** 3 },
      stats: { minIntervalMs: 1000, writableLayerIntervalMs: 10_000 },
      timeouts: {
        runPodSandboxMs: 240_000,
        cniMs: 90_000,
        runtimeMs: 60_000,
        stopGraceMs: 10_000,
        releaseMs: 60_000,
        remoteMs: 10_000,
        drainMs: 10_000,
      },
      recovery: { concurrency: 32 },
      debug: { failpoints: false },
    })
  })

  it('derives paths from the directories that are given', () => {
    const config = parseConfig('root = "/a/root"\nstate = "/a/state"', 'test.toml')
    expect(config.checkpointKeyFile).toBe('/a/root/checkpoint.key')
    expect(config.cri.socket).toBe('/a/state/cri.sock')
    expect(config.sandboxer.socket).toBe('/a/state/sandboxer.sock')
    expect(config.runtimes['runc']?.runtimeRoot).toBe('/a/state/runtime/runc')
  })

  it('replaces all default handlers when any is given', () => {
    const config = parseConfig('[runtimes.crun]\nruntime = "/opt/crun"', 'test.toml')
    expect(Object.keys(config.runtimes)).toEqual(['crun'])
  })

  it('is frozen through and through', () => {
    const config = parseConfig('', 'test.toml')
    const seen: object[] = [config]
    for (const value of seen) {
      expect(Object.isFrozen(value)).toBe(true)
      seen.push(
        ...(Object.values(value) as unknown[]).filter((member) => typeof member === 'object' && member !== null),
      )
    }
    expect(seen.length).toBeGreaterThan(15)
  })

  it('finds no handler under a name that every object has', () => {
    const { runtimes, sandboxers } = parseConfig('', 'test.toml')
    for (const name of ['constructor', '__proto__', 'toString']) {
      expect(runtimes[name]).toBeUndefined()
      expect(sandboxers[name]).toBeUndefined()
    }
  })
})

describe('parseConfig: values', () => {
  it.each([
    ['"0660"', 0o660],
    ['"600"', 0o600],
    ['"0o640"', 0o640],
    ['0o666', 0o666],
    ['432', 0o660],
  ])('reads the mode %s', (text, mode) => {
    expect(parseConfig(`[cri]\nmode = ${text}`, 'test.toml').cri.mode).toBe(mode)
  })

  it.each(['660', '"0888"', '"rw"', '-1', 'true', '4.5'])('refuses the mode %s', (text) => {
    expect(problems(`[cri]\nmode = ${text}`)).toEqual([
      'cri.mode: must be a file mode: octal text as "0660", or an integer of at most 0o777',
    ])
  })

  it('rounds fractions of seconds to milliseconds', () => {
    const { timeouts, cni } = parseConfig(
      '[timeouts]\ncni = 1.5\nstop_grace = 0\n[cni]\nreload_interval_seconds = 0.25',
      'test.toml',
    )
    expect(timeouts.cniMs).toBe(1500)
    expect(timeouts.stopGraceMs).toBe(0)
    expect(cni.reloadIntervalMs).toBe(250)
  })

  it('has the shim of a runtime_type run the pods, unless the handler says who does', () => {
    const toml = `
      default_runtime_handler = "shim"
      [runtimes.shim]
      runtime = "/usr/bin/crun"
      runtime_type = "io.containerd.runc.v2"
      [runtimes.kata]
      runtime_type = "/opt/kata/bin/containerd-shim-kata-v2"
      runtime_config = "/etc/kata.toml"
      [runtimes.far]
      runtime_type = "io.containerd.kata.v2"
      sandboxer = "far"
      [sandboxers.far]
      address = "/far"`
    const { shim, kata, far } = parseConfig(toml, 'test.toml').runtimes
    expect(shim).toMatchObject({ sandboxer: 'shim-v2', runtimeType: 'io.containerd.runc.v2', runtimeConfig: '' })
    expect(kata).toMatchObject({ sandboxer: 'shim-v2', runtime: '', runtimeConfig: '/etc/kata.toml' })
    expect(far).toMatchObject({ sandboxer: 'far', runtimeType: 'io.containerd.kata.v2' })
  })

  it('lets several handlers share a remote sandboxer, which needs no OCI runtime here', () => {
    const toml = `
      default_runtime_handler = "kata"
      [sandboxers.kuasar]
      address = "/run/kuasar.sock"
      [sandboxers.other]
      address = "/run/other.sock"
      network_first = false
      unreachable_grace = 0.5
      [runtimes.kata]
      sandboxer = "kuasar"
      [runtimes.kata-qemu]
      sandboxer = "kuasar"`
    const config = parseConfig(toml, 'test.toml')
    expect(config.sandboxers['kuasar']).toEqual({
      address: 'unix:///run/kuasar.sock',
      networkFirst: true,
      unreachableGraceMs: 30_000,
    })
    expect(config.sandboxers['other']).toMatchObject({ networkFirst: false, unreachableGraceMs: 500 })
    expect(config.runtimes['kata-qemu']).toMatchObject({ sandboxer: 'kuasar', runtime: '' })
  })
})

const URL_PROBLEM = 'must be http://host[:port][/path] or https://host[:port][/path]'

describe('parseConfig: problems of single keys', () => {
  it.each([
    ['root = "relative"', 'root: must be an absolute path'],
    ['root = "/a/../b"', 'root: must be a normalized path: /b'],
    ['root = "/a/"', 'root: must be a normalized path: /a'],
    ['root = "/"', 'root: must not be the root directory'],
    ['root = "/a\\u0000b"', 'root: must not contain control characters'],
    ['root = 3', 'root: must be a string, not a number'],
    ['root = 1979-05-27', 'root: must be a string, not a date'],
    ['log = 3', 'log: must be a table, not a number'],
    ['runtimes = []', 'runtimes: must be a table, not an array'],
    ['[log]\nlevel = "loud"', 'log.level: must be one of trace, debug, info, warn, error'],
    ['[cri]\ngroup = "no such"', 'cri.group: must be the name of a group or a numeric group id'],
    ['[cni]\nbin_dirs = []', 'cni.bin_dirs: must not be empty'],
    ['[cni]\nbin_dirs = ["/a", "b"]', 'cni.bin_dirs[1]: must be an absolute path'],
    ['[cni]\nmax_concurrent = 0', 'cni.max_concurrent: must be a whole number between 1 and 1024'],
    ['[pause]\nstop_signal = "INT"', 'pause.stop_signal: must be the name of a signal, as SIGINT'],
    ['[pause]\nstop_signal = "toString"', 'pause.stop_signal: must be the name of a signal, as SIGINT'],
    ['[timeouts]\ncni = 0', 'timeouts.cni: must be between 0.001 and 86400 seconds'],
    ['[timeouts]\ncni = 86401', 'timeouts.cni: must be between 0.001 and 86400 seconds'],
    ['[timeouts]\ncni = nan', 'timeouts.cni: must be a number, not nan'],
    ['[timeouts]\ndrain = -1', 'timeouts.drain: must be 0 or between 0.001 and 86400 seconds'],
    ['[streaming]\naddress = "localhost"', 'streaming.address: must be an IP address'],
    ['[streaming]\naddress = "fe80::1%eth0"', 'streaming.address: must be an IP address'],
    ['[streaming]\nport = 65536', 'streaming.port: must be a TCP port, or 0'],
    ['[streaming]\nbase_url = "node:10350"', `streaming.base_url: ${URL_PROBLEM}`],
    ['[streaming]\nbase_url = "http://a/?b"', `streaming.base_url: ${URL_PROBLEM}`],
    ['[streaming]\nbase_url = "http://u:p@a"', `streaming.base_url: ${URL_PROBLEM}`],
    ['[debug]\nfailpoints = "yes"', 'debug.failpoints: must be a boolean, not a string'],
    ['[sandboxers.a]', 'sandboxers.a.address: is missing'],
    [
      '[sandboxers.a]\naddress = "tcp://1.2.3.4:5"',
      'sandboxers.a.address: must be unix:///path or /path: the path must be an absolute path',
    ],
    ['[runtimes.crun]\nruntime = "crun"', 'runtimes.crun.runtime: must be an absolute path'],
    [
      '[runtimes."../x"]\nruntime = "/x"\n[runtimes.crun]\nruntime = "/x"',
      'runtimes."../x": must be a name of at most 63 letters, digits, "_", "." and "-"',
    ],
    ['[log]\nlevel = "info"\ncolour = true', 'log.colour: unknown key'],
    ['"a\\nb" = 1', '"a\\nb": unknown key'],
    ['__proto__ = 1', '__proto__: unknown key'],
    ['[sandboxers.__proto__]\naddress = "/x"', 'sandboxers.__proto__: is not a name that can be used'],
  ])('%j → %s', (toml, problem) => {
    expect(problems(toml)).toEqual([problem])
  })

  it('says where the text is not TOML', () => {
    expect(problems('root = "/a"\nstate = \n')).toEqual([expect.stringMatching(/^line 2, column \d+: /)])
    expect(problems('root = "/a"\nroot = "/b"')).toEqual([expect.stringMatching(/^line 2, column 1: .*redefine/)])
  })

  it('reports all of them at once, also what is wrong between other keys', () => {
    const toml = `
      root = "relative"
      colour = "red"
      default_runtime_handler = "nope"
      [log]
      level = "loud"
      [runtimes.crun]
      runtime = "crun"
      [runtimes.kata]
      sandboxer = "kuasar"
      [timeouts]
      cni = "long"`
    const found = problems(toml)
    expect([...found].sort()).toEqual([
      'colour: unknown key',
      'default_runtime_handler: "nope" is not one of [runtimes]: crun, kata',
      'log.level: must be one of trace, debug, info, warn, error',
      'root: must be an absolute path',
      'runtimes.crun.runtime: must be an absolute path',
      'runtimes.kata.sandboxer: handler "kata" names the sandboxer "kuasar", which is not one of: shim, pinned, shim-v2',
      'timeouts.cni: must be a number, not a string',
    ])
    expect(() => parseConfig(toml, 'test.toml')).toThrow(/^read the configuration test\.toml: .*; .*; /)
  })

  it('does not blame a key for another one that is wrong by itself', () => {
    expect(
      problems(
        '[runtimes.a]\nruntime = "/a"\nsandboxer = "r"\n[sandboxers.r]\naddress = 1',
        'default_runtime_handler=a',
      ),
    ).toEqual(['sandboxers.r.address: must be a string, not a number'])
    expect(problems('runtimes = 1')).toHaveLength(1)
    expect(problems('[runtimes]\ncrun = 1')).toHaveLength(1)
  })
})

const TLS = 'tls_cert_file = "/c"\ntls_key_file = "/k"'

describe('parseConfig: problems between keys', () => {
  it.each([
    ['root = "/a"\nstate = "/a"', 'root: must not be the same directory as state'],
    ['root = "/a/b"\nstate = "/a"', 'root: must not be inside state'],
    ['root = "/a+b"', 'root: must not contain any of @ + : , [ ], which image tools take for signs'],
    ['root = "/n/b"\nnetns_dir = "/n"', 'netns_dir: root must not be inside it'],
    ['state = "/run/netns"', 'netns_dir: state must not be the same directory as it'],
    ['checkpoint_key_file = "/run/sandboxerd/key"', 'checkpoint_key_file: must not be inside state'],
    ['[sandboxer]\nsocket = "/run/sandboxerd/cri.sock"', 'sandboxer.socket: must not be the same as cri.socket'],
    ['[sandboxers.pinned]\naddress = "/x"', 'sandboxers.pinned: must have another name: pinned is built in'],
    [
      '[sandboxers.me]\naddress = "/run/sandboxerd/sandboxer.sock"',
      'sandboxers.me.address: must not be the socket of this',
    ],
    ['[runtimes.crun]', 'runtimes.crun.runtime: must be an absolute path: the sandboxer shim needs an OCI runtime'],
    [
      '[runtimes.crun]\nruntime = "/a"\nsandboxer = "shim-v2"',
      'runtimes.crun.runtime_type: must be given: the sandboxer shim-v2 needs a shim',
    ],
    [
      '[runtimes.crun]\nruntime = "/a"\nsandboxer = "pinned"\nruntime_type = "io.containerd.runc.v2"',
      'runtimes.crun.runtime_type: must be empty: the sandboxer pinned runs no containerd shims',
    ],
    [
      '[runtimes.crun]\nruntime_type = "io.containerd.runc.v2"',
      'runtimes.crun.runtime: must be an absolute path: the sandboxer shim-v2 needs an OCI runtime',
    ],
    [
      '[runtimes.crun]\nruntime = "/a"\nruntime_type = "io.containerd.runc.v2"\nruntime_config = "/c"',
      'runtimes.crun.runtime_config: is only for a runtime_type other than that of runc',
    ],
    [
      '[runtimes.crun]\nruntime = "/a"\nruntime_type = "runc"',
      'runtimes.crun.runtime_type: must be as io.containerd.runc.v2, or an absolute path',
    ],
    [
      '[runtimes.crun]\nruntime = "/a"\nruntime_root = "/r"\n[runtimes.b]\nruntime = "/b"\nruntime_root = "/r"',
      'runtimes.b.runtime_root: must not be shared with the handler "crun"',
    ],
    ['[sandboxer]\nruntime_handler = "kata"', 'sandboxer.runtime_handler: "kata" is not one of [runtimes]: crun, '],
    ['[sandboxer]\nfront_end_root = "/a"', 'sandboxer.front_end_state: must be given with front_end_root'],
    ['[sandboxer]\nfront_end_state = "/a"', 'sandboxer.front_end_root: must be given with front_end_state'],
  ])('%j → %s', (toml, problem) => {
    expect(problems(toml)).toEqual([expect.stringContaining(problem)])
  })

  it.each([
    ['address = "10.0.0.1"', 'streaming.address: must be a loopback address without TLS'],
    ['address = "::"\nbase_url = "http://node:1"', 'streaming.address: must be a loopback address without TLS'],
    ['address = "::ffff:10.0.0.1"', 'streaming.address: must be a loopback address without TLS'],
    [`address = "0.0.0.0"\n${TLS}`, 'streaming.base_url: must be given: clients cannot connect to 0.0.0.0'],
    ['tls_cert_file = "/c"', 'streaming.tls_key_file: must be given with tls_cert_file'],
    ['tls_key_file = "/k"', 'streaming.tls_cert_file: must be given with tls_key_file'],
    ['tls_client_ca_file = "/a"', 'streaming.tls_client_ca_file: must not be given without tls_cert_file'],
  ])('streaming: %j → %s', (toml, problem) => {
    expect(problems(`[streaming]\n${toml}`)).toEqual([expect.stringContaining(problem)])
  })

  it.each([
    'address = "127.1.2.3"',
    'address = "::1"\nport = 10350',
    'address = "::ffff:127.0.0.1"',
    `address = "10.0.0.1"\n${TLS}`,
    `address = "::"\nbase_url = "https://node:10350/streaming"\n${TLS}\ntls_client_ca_file = "/a"`,
  ])('allows streaming at %j', (toml) => {
    expect(problems(`[streaming]\n${toml}`)).toEqual([])
  })

  it('allows a state directory and a netns directory inside others where that breaks nothing', () => {
    expect(problems('root = "/d"\nstate = "/d/state"\nnetns_dir = "/d/state/netns"')).toEqual([])
    expect(problems('root = "/run/sandboxerd-root"')).toEqual([])
  })

  it('keeps socket paths at what the kernel takes, counted in bytes', () => {
    const path = (bytes: number): string => `/${'é'.repeat((bytes - 2) / 2)}x`
    expect(problems(`[cri]\nsocket = "${path(106)}x"`)).toEqual([])
    expect(problems(`[cri]\nsocket = "${path(108)}"`)).toEqual([
      expect.stringMatching(/^cri\.socket: must be a path of at most 107 bytes, .* has 108$/),
    ])
    const long = `/${'s'.repeat(100)}`
    expect(problems(`state = "${long}"`)).toEqual([
      expect.stringContaining('cri.socket: must be a path of at most 107 bytes'),
      expect.stringContaining('sandboxer.socket: must be a path of at most 107 bytes'),
      expect.stringContaining('admin.socket: must be a path of at most 107 bytes'),
    ])
  })
})

describe('parseConfig: levels of rooms', () => {
  it('takes levels of rooms that there are', () => {
    const { log } = parseConfig('[log.levels]\ncni = "debug"', 'test.toml')
    expect(log.levels).toEqual({ cni: 'debug' })
    expect(problems('[log]\nlevels = { cnii = "debug" }')).toEqual([
      expect.stringMatching(/^log\.levels\.cnii: must be one of admin, cni, /),
    ])
  })
})

describe('parseConfig: any input', () => {
  const key = fc.constantFrom(
    'root',
    'log',
    'level',
    'runtimes',
    'crun',
    'runtime',
    'sandboxers',
    'cni',
    'bin_dirs',
    'x',
  )
  const { table } = fc.letrec<{ value: unknown; table: Record<string, unknown> }>((tie) => ({
    table: fc.dictionary(key, tie('value'), { maxKeys: 4 }),
    value: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom('/a', '/a/b', 'shim', 'crun', '', 0, 1, -1.5, true),
      fc.string(),
      fc.array(fc.constantFrom('/a', 1), { maxLength: 2 }),
      tie('table'),
    ),
  }))

  it('gives a configuration or a ConfigError with a problem, nothing else', () => {
    fc.assert(
      fc.property(table, (input) => {
        const found = problems(stringify(input))
        for (const problem of found) expect(problem).toMatch(/^[^\n]+: [^\n]+$/)
      }),
      { numRuns: 200 },
    )
  })
})
