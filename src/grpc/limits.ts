/** The largest message we take and send, in bytes: what the kubelet and crictl allow themselves. */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024
