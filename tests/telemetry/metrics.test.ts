import { describe, expect, it } from 'vitest'
import type { CurvePoint } from '#flyweight/measurements.js'
import { createMetrics } from '#flyweight/telemetry/metrics.js'

const build = { version: '1.2.3', runtime: 'ort 1', node: 'v20' }
const request = { model: 'm', variant: 'int8', outcome: 'ok', sla: 'met', priority: 0, fidelity: 0.98, queueMs: 2, inferMs: 8, totalMs: 10 } as const

describe('metrics', () => {
  it('tell requests by outcome, and requests with a deadline by result', async () => {
    const metrics = createMetrics({ build })
    metrics.requestFinished(request)
    metrics.requestFinished({ ...request, sla: 'missed' })
    metrics.requestFinished({ ...request, variant: undefined, outcome: 'overloaded', sla: 'shed', fidelity: undefined, priority: 5 })
    metrics.requestFinished({ ...request, sla: undefined })
    const text = await metrics.text()
    expect(text).toContain('flyweight_request_duration_seconds_count{model="m",variant="int8",outcome="ok"} 3')
    expect(text).toContain('flyweight_request_duration_seconds_count{model="m",variant="none",outcome="overloaded"} 1')
    expect(text).toContain('flyweight_sla_requests_total{model="m",class="p0",result="met"} 1')
    expect(text).toContain('flyweight_sla_requests_total{model="m",class="p5",result="shed"} 1')
    expect(text).toContain('flyweight_queue_duration_seconds_count{model="m"} 3')
    metrics.close()
  })

  it('count in buckets that double from 10 µs', async () => {
    const metrics = createMetrics({ build })
    metrics.batchFinished({ model: 'm', variant: 'int8', rows: 8, inferMs: 0.015 })
    const text = await metrics.text()
    const bounds = [...text.matchAll(/flyweight_inference_duration_seconds_bucket\{le="([\d.e-]+)"/g)].map(([, bound]) => Number(bound))
    expect(bounds[0]).toBe(1e-5)
    for (const [index, bound] of bounds.slice(1).entries()) expect(bound / (bounds[index] as number)).toBeCloseTo(2, 4)
    expect(text).toContain('flyweight_inference_duration_seconds_bucket{le="0.00002",model="m",variant="int8"} 1')
    expect(text).toContain('flyweight_batch_size_bucket{le="8",model="m",variant="int8"} 1')
    metrics.close()
  })

  it('follow memory, lanes, jobs and the catalog', async () => {
    let queued = 1
    const point = { step: 8, epoch: 2, loss: 0.5, heldOut: { loss: 0.75, accuracy: 0.875 } }
    const trainings = new Map<string, CurvePoint>([
      ['m', point],
      ['unlabelled', { ...point, heldOut: { loss: 1 } }],
    ])
    const metrics = createMetrics({
      build,
      gauges: { queuedJobs: () => queued, runningJobs: () => 2, variants: () => ({ ready: 3 }), trainings: () => trainings },
    })
    metrics.memory(100, 1000)
    metrics.variantLoaded({ model: 'm', variant: 'int8', lane: 0, loadMs: 20, bytes: 100 })
    metrics.variantEvicted({ model: 'm', variant: 'int8', lane: 0, bytes: 100, reason: 'budget' })
    metrics.laneRestarted(1, 'crashed')
    metrics.queueDepth('m', 7)
    metrics.jobFinished({ kind: 'compress', state: 'failed', seconds: 3, passes: [{ pass: 'fp16', seconds: 1 }] })
    queued = 4
    const text = await metrics.text()
    for (const line of [
      'flyweight_resident_bytes 100',
      'flyweight_memory_budget_bytes 1000',
      'flyweight_loads_total{model="m",variant="int8"} 1',
      'flyweight_load_duration_seconds_count{model="m",variant="int8"} 1',
      'flyweight_evictions_total{reason="budget"} 1',
      'flyweight_lane_restarts_total{lane="1"} 1',
      'flyweight_queue_depth{model="m"} 7',
      'flyweight_jobs_queued 4',
      'flyweight_jobs_running 2',
      'flyweight_variants{state="ready"} 3',
      'flyweight_training_epochs{model="m"} 2',
      'flyweight_training_loss{model="m"} 0.5',
      'flyweight_training_held_out_loss{model="unlabelled"} 1',
      'flyweight_training_held_out_accuracy{model="m"} 0.875',
      'flyweight_jobs_total{kind="compress",state="failed"} 1',
      'flyweight_compress_pass_duration_seconds_count{pass="fp16"} 1',
      'flyweight_build_info{version="1.2.3",runtime="ort 1",node="v20"} 1',
    ]) {
      expect(text.split('\n')).toContain(line)
    }
    expect(text).not.toContain('accuracy{model="unlabelled"}')
    expect(text).toMatch(/flyweight_event_loop_delay_seconds\{quantile="0.99"\} [\d.e-]+/)
    expect(text).toContain('process_resident_memory_bytes')
    metrics.close()
  })

  it('keep to the exposition format: help and type once per metric, names and units as Prometheus has them', async () => {
    const metrics = createMetrics({ build, gauges: { queuedJobs: () => 0, runningJobs: () => 0, variants: () => ({}) } })
    const text = await metrics.text()
    const types = new Map([...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name, type]) => [name as string, type as string]))
    const ours = [...types].filter(([name]) => name.startsWith('flyweight_'))
    expect(ours.length).toBeGreaterThan(15)
    for (const [name, type] of ours) {
      expect(name).toMatch(/^[a-z][a-z0-9_]+$/)
      expect(name.endsWith('_total'), name).toBe(type === 'counter')
      expect(name).not.toMatch(/_(ms|milliseconds|mb|count|sum|bucket)$/)
      expect(text.match(new RegExp(`^# HELP ${name} \\S`, 'gm'))).toHaveLength(1)
    }
    expect(metrics.contentType).toMatch(/^text\/plain/)
    metrics.close()
  })
})
