// What the stages of sharded variants do, as metrics: how busy each device is with each, and what passes between them.
import { Counter, Gauge, type Registry } from 'prom-client'
import type { ServingObserver } from '../serving/observer.js'

/** @param inFlight micro-batches under way, by the id of the variant */
export function stageMetrics(registry: Registry, inFlight?: () => ReadonlyMap<string, number>): Pick<ServingObserver, 'stageRan' | 'deviceLost'> {
  const registers = [registry]
  if (inFlight) inFlightGauge(registry, inFlight)
  const labelNames = ['model', 'variant', 'stage', 'device']
  const busy = new Counter({ name: 'flyweight_stage_busy_seconds_total', help: 'Time of stages inside the runtime', labelNames, registers })
  const wait = new Counter({
    name: 'flyweight_stage_wait_seconds_total',
    help: 'Time that micro-batches waited for the device of a stage',
    labelNames,
    registers,
  })
  const bytes = new Counter({
    name: 'flyweight_stage_bytes_total',
    help: 'Bytes that stages read (in) and gave (out)',
    labelNames: [...labelNames, 'direction'],
    registers,
  })
  const runs = new Counter({ name: 'flyweight_stage_micro_batches_total', help: 'Micro-batches that stages computed', labelNames, registers })
  const queued = new Gauge({ name: 'flyweight_stage_queued', help: 'Micro-batches that wait for a stage', labelNames, registers })
  const lost = new Counter({
    name: 'flyweight_stage_devices_lost_total',
    help: 'Devices with stages that died and were opened again',
    labelNames: ['device'],
    registers,
  })
  return {
    stageRan: (run) => {
      const labels = { model: run.model, variant: run.variant, stage: String(run.stage), device: run.device }
      busy.inc(labels, run.busyMs / 1000)
      wait.inc(labels, run.waitMs / 1000)
      bytes.inc({ ...labels, direction: 'in' }, run.inBytes)
      bytes.inc({ ...labels, direction: 'out' }, run.outBytes)
      runs.inc(labels)
      queued.set(labels, run.queued)
    },
    deviceLost: (device) => lost.inc({ device }),
  }
}

function inFlightGauge(registry: Registry, inFlight: () => ReadonlyMap<string, number>): void {
  new Gauge({
    name: 'flyweight_pipeline_in_flight',
    help: 'Micro-batches between the first and the last stage',
    labelNames: ['model', 'variant'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [id, count] of inFlight()) {
        this.set({ model: id.slice(0, id.indexOf(':')), variant: id.slice(id.lastIndexOf(':') + 1) }, count)
      }
    },
  })
}
