// Small trainings by pipelines, beside those of parallel/trained.ts.
import { openPipelineEngine, type PipelineEngine } from '#flyweight/train/pipeline/pipeline-engine.js'
import type { Stages } from '#flyweight/train/pipeline/stages.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { networks, trained, type Trained, type TrainedBy } from '../parallel/trained.js'
import { inlineStages } from './inline-stages.js'

export interface PipedBy extends Omit<TrainedBy, 'ranks' | 'openEngine'> {
  parallel: Record<string, unknown>
  /** Default: on the test's own thread. */
  stages?: Stages
}

/** @returns also the engine, for what it tells */
export async function piped({ parallel, stages, ...given }: PipedBy): Promise<Trained & { engine: PipelineEngine }> {
  const settings = { ...given.settings, parallel }
  const step = { settings: completeSettings({ batchSize: 8, ...settings }), prediction: 'scores', labelled: true }
  const { pipeline, data } = step.settings.parallel
  const engines: PipelineEngine[] = []
  const result = await trained({
    ...given,
    settings,
    openEngine: (form) => {
      const model = networks[given.network]()
      engines.push(openPipelineEngine({ model, form, step, stages: stages ?? inlineStages({ stages: pipeline, replicas: data }), threads: 1 }))
      return engines[0] as PipelineEngine
    },
  })
  return { ...result, engine: engines[0] as PipelineEngine }
}
