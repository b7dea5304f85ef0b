// The repository's entry for one version of a model, and what becomes of it when the files on disk are
// no longer what is served.
import type { FlyweightError } from '../errors.js'
import { SOURCE_VERSION } from './model-folder.js'
import type { ModelState, ModelVersion } from './model.js'

export interface Version {
  /** What is served; it may be older than what lies on disk. */
  served: ModelVersion | undefined
  state: ModelState
  reason: string
  /** Of the files and settings last tried. */
  stamp: string
}

/** Whether model.yaml named its file: then a fault in model.yaml hides it, though nothing was taken away. */
export function isFromSource({ served }: Version): boolean {
  return served?.version === SOURCE_VERSION && served.manifest.source !== undefined
}

export function keepAsBefore(version: Version, fault: FlyweightError): void {
  version.reason = asBefore(fault.message)
  // Mended, it is to be tried again even if it is what it was.
  version.stamp = ''
}

export function asBefore(reason: string): string {
  return `still served as it was before; as it is now: ${reason}`
}
