// What the train command tells at its end: how good the model is, and after which epoch.
import type { CurvePoint, Evaluation } from '../measurements.js'

export interface TrainingOutcome {
  best: CurvePoint
  ended: 'steps' | 'patience'
  parameters: number
  teacher?: Evaluation
}

export function trainingLines({ best, ended, parameters, teacher }: TrainingOutcome): string[] {
  const { epoch, heldOut } = best
  const accuracy = ({ accuracy: share }: Evaluation) => (share === undefined ? '' : `${(100 * share).toFixed(2)} % right`)
  const held = [accuracy(heldOut), `loss ${heldOut.loss.toPrecision(4)}`].filter((text) => text !== '').join(', ')
  return [
    `on held-out rows: ${held}, after ${epoch.toFixed(1)} epochs${ended === 'patience' ? '; stopped early, as it got no better' : ''}`,
    ...(teacher?.accuracy === undefined ? [] : [`its teacher: ${accuracy(teacher)}`]),
    `${parameters.toLocaleString('en')} parameters`,
  ]
}
