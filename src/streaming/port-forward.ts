import type { PortForwarders } from './carrier.ts'
import { forwardChannels } from './port-forward-channels.ts'
import { forwardStreams } from './port-forward-streams.ts'

/** Port-forward as the kubelet's own streaming server does it, with half-closed connections and no grace periods. */
export const portForwarders: PortForwarders = { spdy: forwardStreams, channels: forwardChannels }
