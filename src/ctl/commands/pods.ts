import type { PodSummary } from '../../admin/api.ts'
import { defineCommand } from '../command.ts'
import { ageText, durationText, shortId } from '../format.ts'
import type { Output } from '../output.ts'
import { daemonOrFiles, OFFLINE_OPTION } from '../source.ts'
import { styled, type Text } from '../style.ts'

export const command = defineCommand({
  usage: '[--steps] [--namespace NAMESPACE] [--offline] [--json] [ID|NAME]',
  description: `Lists the pod sandboxes of this node, newest first: also those that other front ends (containerd, iSulad) have had made, and those that are just being made or removed. With an ID, the beginning of one, or a name, only those.

RUN is the time that RunPodSandbox took; --steps shows each of its steps. Without a daemon it tells what is on record. A terminal that is too narrow for the table shows fewer columns.

  sandboxerctl pods --steps 3f1c
  sandboxerctl pods --json | jq '.[] | select(.state != "RUNNING")'`,
  options: {
    steps: { type: 'boolean', description: 'the steps of RunPodSandbox of each pod, and how long each took' },
    namespace: { type: 'string', short: 'n', value: 'NAMESPACE', description: 'only the pods of this namespace' },
    ...OFFLINE_OPTION,
  },
  operands: [0, 1],
  async run(call) {
    const { out, options, operands } = call
    const all = await daemonOrFiles(
      call,
      (admin) => admin.call<readonly PodSummary[]>('/v1/pods'),
      async ({ sandboxes, containers }) => {
        const { podSummaries } = await import('../../admin/pods.ts')
        return podSummaries(sandboxes, containers)
      },
    )
    const [wanted] = operands
    const pods = all
      .filter(({ namespace }) => options.namespace === undefined || namespace === options.namespace)
      .filter(({ id, name }) => wanted === undefined || id.startsWith(wanted) || name === wanted)
    if (out.isJson) out.json(pods)
    else if (options.steps) printSteps(out, pods)
    else printPods(out, pods)
    if (pods.length > 0 || wanted === undefined) return 0
    out.note(`no pod has the id or name ${wanted}`)
    return 1
  },
})

const COLUMNS = [
  { title: 'ID' },
  { title: 'NAMESPACE' },
  { title: 'NAME' },
  { title: 'STATE' },
  { title: 'AGE', drop: 7 },
  { title: 'SANDBOXER', drop: 3 },
  { title: 'PID', right: true, drop: 4 },
  { title: 'IP', drop: 6 },
  { title: 'CONTAINERS', right: true, drop: 5 },
  { title: 'RUN', right: true, drop: 2 },
  { title: 'NETNS', drop: 1 },
]

function printPods(out: Output, pods: readonly PodSummary[]): void {
  out.table(
    COLUMNS,
    pods.map((pod) => [
      shortId(pod.id),
      pod.namespace,
      pod.name,
      stateText(pod),
      ageText(pod.createdAt),
      pod.frontEnd === 'cri' ? pod.sandboxer : `${pod.sandboxer} (served)`,
      pod.pid === null || pod.pid === 0 ? '-' : String(pod.pid),
      pod.ips[0] ?? '-',
      String(pod.containers),
      durationText(pod.runMs),
      pod.netns || 'host',
    ]),
  )
  for (const { id, quarantined, failure } of pods) {
    const problems = [quarantined, failure].filter(Boolean)
    if (problems.length > 0) out.line(shortId(id), ': ', styled('red', problems.join('; ')))
  }
}

function stateText({ state, quarantined }: PodSummary): Text {
  if (quarantined !== '') return styled('red', `${state} (quarantined)`)
  return state === 'RUNNING' ? styled('green', state) : styled('yellow', state)
}

function printSteps(out: Output, pods: readonly PodSummary[]): void {
  const columns = [
    { title: 'ID' },
    { title: 'NAME' },
    { title: 'STEP' },
    { title: 'FROM', right: true },
    { title: 'TOOK', right: true },
  ]
  const rows = pods.flatMap(({ id, name, steps }) =>
    steps.map((step, at) => {
      const [shownId, shownName] = at === 0 ? [shortId(id), name] : ['', '']
      return [shownId, shownName, step.name, durationText(step.startMs), durationText(step.durationMs)]
    }),
  )
  out.table(columns, rows)
}
