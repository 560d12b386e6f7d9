import { CodedError } from '../core/errors.ts'

/**
 * The JSON values of a stream that has one on each line. What follows the last line break is left out: whoever wrote it
 * was cut off.
 * @throws CodedError `ResourceExhausted` for a line that is too long, SyntaxError for one that is not JSON.
 */
export async function* jsonLines(chunks: AsyncIterable<unknown>, maxLineBytes: number): AsyncGenerator<unknown> {
  let begun: Buffer[] = []
  let begunBytes = 0
  for await (const chunk of chunks as AsyncIterable<Buffer>) {
    let from = 0
    for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a, from)) {
      const line = Buffer.concat([...begun, chunk.subarray(from, end)]).toString('utf8')
      begun = []
      begunBytes = 0
      from = end + 1
      if (line.trim() !== '') yield JSON.parse(line)
    }
    begun.push(chunk.subarray(from))
    begunBytes += chunk.length - from
    if (begunBytes > maxLineBytes)
      throw new CodedError('ResourceExhausted', 'read a stream of JSON: a line is too long')
  }
}
