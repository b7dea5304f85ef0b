// The admin scope: every /admin route by subject.
import type { Scope, Services } from '../services.js'
import { cacheRoutes } from './cache.js'
import { captureRoutes } from './capture.js'
import { jobPlotRoute } from './job-plot.js'
import { jobRoutes } from './jobs.js'
import { trainingRoutes } from './training.js'
import { modelRoutes } from './models.js'
import { planPlotRoute } from './plan-plot.js'
import { shardRoutes } from './shard.js'
import { variantRoutes } from './variants.js'

export function adminRoutes(scope: Scope, services: Services): void {
  modelRoutes(scope, services)
  jobRoutes(scope, services)
  jobPlotRoute(scope, services)
  trainingRoutes(scope, services)
  shardRoutes(scope, services)
  planPlotRoute(scope, services)
  variantRoutes(scope, services)
  cacheRoutes(scope, services)
  captureRoutes(scope, services)
}
