import { createRequire } from 'node:module'
import type * as PromClient from 'prom-client'

// The parts of prom-client that we use. Its own entry loads five times as much: a push gateway, clusters, quantiles.

const load = createRequire(import.meta.url)

export type Histogram = PromClient.Histogram
export type Registry = PromClient.Registry
export const Counter = load('prom-client/lib/counter.js') as typeof PromClient.Counter
export const Gauge = load('prom-client/lib/gauge.js') as typeof PromClient.Gauge
export const Histogram = load('prom-client/lib/histogram.js') as typeof PromClient.Histogram
export const Registry = load('prom-client/lib/registry.js') as typeof PromClient.Registry
