// Training as its users see it: a job with a curve, and a model that is served at its end.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Problem } from '#flyweight/http/problem.js'
import type { ShownTraining } from '#flyweight/jobs/train-job.js'
import { startGateway, type TestGateway } from './gateway.js'

interface JobView {
  id: string
  kind: string
  state: string
  result?: ShownTraining
  error?: { detail: string }
  log: string[]
}

let gateway: TestGateway
beforeAll(async () => (gateway = await startGateway()))
afterAll(() => gateway.stop())

const post = (url: string, payload: object) => gateway.server.inject({ method: 'POST', url, payload })

async function trained(url: string, payload: object): Promise<JobView> {
  const answer = await post(url, payload)
  expect(answer.statusCode, answer.body).toBe(202)
  const { id } = answer.json<JobView>()
  for (;;) {
    const job = (await gateway.server.inject({ method: 'GET', url: `/admin/jobs/${id}` })).json<JobView>()
    if (job.state !== 'queued' && job.state !== 'running') return job
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

describe('POST /admin/distill', () => {
  it('makes a student that is served under its own name', async () => {
    const job = await trained('/admin/distill', { teacher: 'digits', student: { kind: 'mlp', hidden: [24] }, training: { epochs: 3, learningRate: 0.005 } })
    expect(job.state, job.error?.detail).toBe('succeeded')
    expect(job.kind).toBe('train')
    expect(job.result?.curve).toHaveLength(3)
    expect(JSON.stringify(job)).not.toContain(gateway.folder)
    expect(job.log.filter((line) => line.startsWith('epoch '))).toHaveLength(3)
    expect(job.result?.teacher?.accuracy).toBeGreaterThan(0.9)
    const served = gateway.repository.resolve('digits-student')
    expect(served.signature.inputs.map(({ name }) => name)).toEqual(gateway.repository.resolve('digits').signature.inputs.map(({ name }) => name))
    const plot = await gateway.server.inject({ method: 'GET', url: `/admin/jobs/${job.id}/plot.svg` })
    expect(plot.statusCode).toBe(200)
    expect(plot.body).toContain('<svg')
    const { body: metrics } = await gateway.server.inject('/metrics')
    expect(metrics).toContain('flyweight_training_epochs{model="digits-student"} 3')
    expect(metrics).toContain(`flyweight_training_held_out_accuracy{model="digits-student"} ${job.result?.curve.at(-1)?.heldOut.accuracy}`)
  })
})

describe('students', () => {
  it('are made from the teacher, and learn from what is inside it', async () => {
    const job = await trained('/admin/distill', {
      ...{ teacher: 'digits', student: { kind: 'shrink', width: 0.5 }, as: 'narrow' },
      training: { epochs: 1, loss: { kind: 'distillation', features: [{ teacher: 'block1.relu', student: 'block1.relu' }] } },
    })
    expect(job.state, job.error?.detail).toBe('succeeded')
    const [whole, narrow] = [gateway.repository.resolve('digits', '1').signature, gateway.repository.resolve('narrow').signature]
    expect(narrow.parameters).toBeLessThan(whole.parameters / 3)
    expect(narrow.outputs.map(({ name }) => name)).toEqual(whole.outputs.map(({ name }) => name))
  })

  it('are models that are served, which get a new version', async () => {
    const job = await trained('/admin/distill', { teacher: 'digits', student: { kind: 'model', model: 'narrow' }, as: 'narrow', training: { epochs: 1 } })
    expect(job.state, job.error?.detail).toBe('succeeded')
    const [before, after] = [gateway.repository.resolve('narrow', '1'), gateway.repository.resolve('narrow')]
    expect(after.version).toBe('2')
    expect(after.signature.parameters).toBe(before.signature.parameters)
    expect(after.digest).not.toBe(before.digest)
  })

  it('must fit the teacher', async () => {
    const job = await trained('/admin/distill', { teacher: 'digits', student: { kind: 'model', model: 'scale' } })
    expect(job.state).toBe('failed')
    expect(job.error?.detail).toContain('/student: it cannot run on a row of the data, "x" [1, 1, 28, 28]')
  })

  it.each([
    [{ kind: 'model', model: 'nobody' }, 404, 'there is no model nobody'],
    [{ kind: 'shrink' }, 422, '/student: got shrink without width and depth'],
    [{ kind: 'shrink', width: 2 }, 400, '/student/width is 2'],
    [{ kind: 'mlq' }, 400, '/student/kind is "mlq", expected one of "mlp", "cnn", "transformer", "model", "shrink"'],
    [{ kind: 'mlp', width: 3 }, 400, '/student/width is not a field here; expected kind, hidden'],
  ])('such as %j are refused', async (student, status, detail) => {
    const answer = await post('/admin/distill', { teacher: 'digits', student })
    expect(answer.statusCode, answer.body).toBe(status)
    expect(JSON.stringify(answer.json<Problem>())).toContain(JSON.stringify(detail).slice(1, -1))
  })
})

describe('POST /admin/finetune', () => {
  it('makes a new version of the model', async () => {
    const job = await trained('/admin/finetune', { model: 'digits', training: { epochs: 1, learningRate: 0.0001, optimizer: { kind: 'adamw' } } })
    expect(job.state, job.error?.detail).toBe('succeeded')
    expect(gateway.repository.resolve('digits').version).toBe('2')
  })

  it('trains on a dataset of the gateway', async () => {
    mkdirSync(join(gateway.folder, 'data', 'datasets'), { recursive: true })
    writeFileSync(join(gateway.folder, 'data', 'datasets', 'nothing.npz'), 'no npz')
    const job = await trained('/admin/finetune', { model: 'digits', data: 'nothing.npz' })
    expect(job.state).toBe('failed')
    expect(job.error?.detail).toContain('nothing.npz')
  })

  it.each([
    [{ model: 'nobody' }, 404, 'there is no model nobody'],
    [{ model: 'digits', data: '../../etc' }, 422, '/data: got "../../etc"'],
    [{ model: 'digits', data: 'captured' }, 422, '/data: no traffic of model digits was captured'],
    [{ model: 'scale' }, 422, '/data: model scale has no samples'],
    [{ model: 'digits', as: 'a/b' }, 422, '/as: got "a/b"'],
    [{ model: 'digits', training: { optimizer: { kind: 'adamw', beta1: 5 } } }, 400, '/training/optimizer/beta1 is 5'],
    [{ model: 'digits', epochs: 3 }, 400, 'epochs'],
  ])('refuses %j', async (payload, status, detail) => {
    const answer = await post('/admin/finetune', payload)
    expect(answer.statusCode, answer.body).toBe(status)
    expect(JSON.stringify(answer.json<Problem>())).toContain(JSON.stringify(detail).slice(1, -1))
  })
})
