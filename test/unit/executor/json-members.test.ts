import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { jsonMembers, jsonObject } from '../../../src/executor/exec/json-members.ts'

describe('jsonMembers', () => {
  it('keeps numbers that JSON.parse would change', () => {
    const json = '{"a": {"hard":18446744073709551615}, "b" : [1, "}]\\"\\\\", {}] ,"c":null}'
    expect([...jsonMembers(json)]).toEqual([
      ['a', '{"hard":18446744073709551615}'],
      ['b', '[1, "}]\\"\\\\", {}]'],
      ['c', 'null'],
    ])
  })

  it('takes any object apart as JSON.parse does, and jsonObject puts it together', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.constantFrom(0, 2), (value, indent) => {
        const members = jsonMembers(JSON.stringify(value, null, indent))
        const parsed = JSON.parse(JSON.stringify(value)) as Record<string, unknown>
        expect([...members].map(([name, text]) => [name, JSON.parse(text) as unknown])).toEqual(Object.entries(parsed))
        expect(JSON.parse(jsonObject(members))).toEqual(parsed)
      }),
    )
  })
})
