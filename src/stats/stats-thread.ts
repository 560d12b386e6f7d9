import { parentPort, workerData } from 'node:worker_threads'
import { errorMessage } from '../core/errors.ts'
import { answerCalls } from '../core/thread.ts'
import { type Machine, readCgroup } from './cgroup-reader.ts'
import { readNetwork } from './net-dev.ts'
import type { ReadAnswer, ReadRequest } from './reader.ts'
import { readFileSystem } from './layer-file-system.ts'
import { SmallFiles } from './small-files.ts'

// The entry of the stats thread, which does nothing but read.

// What is not there is told by an exception, thousands of times: nobody reads where they come from.
Error.stackTraceLimit = 0

const machine: Machine = { ...(workerData as Omit<Machine, 'files'>), files: new SmallFiles() }

/** What cannot be read of one is told with it, and keeps nobody from the others. */
function read({ cgroup, network }: ReadRequest): ReadAnswer {
  try {
    return {
      cgroup: cgroup && readCgroup(machine, cgroup),
      network: network && readNetwork(machine, network),
      failure: '',
    }
  } catch (error) {
    return { cgroup: null, network: null, failure: errorMessage(error) }
  }
}

if (!parentPort) throw new Error('the stats thread has no parent')
answerCalls(parentPort, (method, argument) => {
  switch (method) {
    case 'read':
      return (argument as readonly ReadRequest[]).map(read)
    case 'fileSystem':
      return readFileSystem(argument as string)
    default:
      throw new Error(`the stats thread has no call ${method}`)
  }
})
