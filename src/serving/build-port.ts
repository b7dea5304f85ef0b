// What serving asks of whoever builds variants: app.ts gives it, made of jobs and recipes.
import type { ModelVersion } from '../registry/model.js'

export interface BuildPort {
  /** Recipe whose build a request that nothing can meet would trigger; undefined when policy or history forbids. */
  next(model: ModelVersion): string | undefined
  /** Starts the build or joins the one that runs; resolves when it has ended, well or not. */
  start(model: ModelVersion, recipe: string): Promise<void>
}
