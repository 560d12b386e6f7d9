import { Metrics, type MetricDescription } from '../../src/telemetry/metrics.ts'

const INTRODUCTION = `<!-- Made from src/telemetry by test/unit/telemetry/metrics-doc.test.ts: vitest -u writes it anew. -->

# Metrics and traces

## Metrics

sandboxerd tells its metrics in the text format of Prometheus, at two places:

- on the admin socket, for root: \`curl --unix-socket /run/sandboxerd/admin.sock http://localhost/metrics\`;
- at \`[metrics] address\`, a loopback address, \`GET /metrics\` and nothing else. Whoever is on the node can read it there: it
  holds names of plugins, runtimes and remote sandboxers, and numbers, but no names or ids of pods. When somebody else has
  that port, the daemon says so in the log and does without.

\`\`\`yaml
scrape_configs:
  - job_name: sandboxerd
    static_configs:
      - targets: ['127.0.0.1:9464']
\`\`\`

\`packaging/observability\` has a dashboard for Grafana (\`dashboard.json\`) and alert rules (\`alerts.yaml\`); what to do
about each alert is in the runbook.

Times are in seconds, sizes in bytes. \`code\` is how something ended: \`OK\`, or the name of a gRPC status. Histograms have
\`_bucket\`, \`_sum\` and \`_count\`. All labels have few values. What has not happened yet is not there.
`

const TRACES = `## Traces

With \`[tracing] endpoint\` the daemon sends spans to a collector (OpenTelemetry, OTLP over HTTP with JSON, at
\`ENDPOINT/v1/traces\`): one for every call, for every operation, its steps and what is released, for every commit, run of a
CNI plugin, command of a runtime, call to a shim and call to a remote sandboxer. Without it nothing of that is loaded.

- A call that comes with W3C Trace Context (\`traceparent\`, \`tracestate\` in its metadata) goes on with that trace; the kubelet
  sends it. Otherwise a trace begins with the call, or with an operation that nobody has called for.
- Calls to remote sandboxers and to shims carry the context on. A remote sandboxer that is another sandboxerd goes on with the
  same trace.
- Who calls decides whether its trace is kept; of those that begin here \`sample_ratio\` are.
- 4096 spans wait at most; more are dropped. A collector that cannot be reached delays nothing, and is told of once in the log.
  The end of the daemon waits two seconds for the last spans.
- Log lines that are written inside a span have its \`trace_id\` and \`span_id\`.
`

/** The text of docs/metrics.md. */
export function metricsDoc(): string {
  using metrics = new Metrics({ version: '' }, { readUsage: async () => ({ openFds: 0, maxFds: 0, threads: 0 }) })
  const rows = metrics.describe().map(row)
  const table = ['| name | type | labels | meaning |', '|---|---|---|---|', ...rows].join('\n')
  return [INTRODUCTION, `${table}\n`, TRACES].join('\n')
}

function row({ name, type, labels, help }: MetricDescription): string {
  return `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help.replaceAll('|', '\\|')} |`
}
