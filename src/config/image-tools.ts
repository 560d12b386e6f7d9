/** The programs that fetch and unpack a pause image. Needed only where one is configured. */
export const IMAGE_TOOLS = { skopeo: '/usr/bin/skopeo', umoci: '/usr/bin/umoci' } as const
