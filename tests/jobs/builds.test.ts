// From wishes to jobs: what is refused, what was built before, what is one job, and what is offered on demand.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import { Builds } from '#flyweight/jobs/builds.js'
import { SqliteQueue } from '#flyweight/jobs/sqlite-queue.js'
import { Catalog } from '#flyweight/registry/catalog.js'
import type { Manifest } from '#flyweight/registry/manifest.js'
import type { ModelVersion, Variant } from '#flyweight/registry/model.js'

const environment = { device: 'cpu', threads: 1, machine: 'here', batches: [1, 4, 16], profileBudgetMs: 50, storeRoot: '/store' }

let directory: string
let queue: SqliteQueue
let catalog: Catalog
let builds: Builds
let digits: ModelVersion
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'flyweight-builds-'))
  queue = new SqliteQueue(join(directory, 'jobs.db'))
  catalog = new Catalog(join(directory, 'catalog.db'), { machine: 'here' })
  digits = modelOf({})
  const resolve = (name: string) => {
    if (name !== digits.name) throw new FlyweightError('model_not_found', `there is no model ${name}`)
    return digits
  }
  builds = new Builds({ jobs: queue, catalog, resolve, environment })
})
afterEach(() => {
  queue.close()
  catalog.close()
  rmSync(directory, { recursive: true })
})

function modelOf(manifest: Manifest, batchable = true): ModelVersion {
  const signature = { inputs: [], outputs: [], batchable, opset: 20, parameters: 1, operators: {} }
  return { name: 'digits', version: '1', digest: 'd1', file: '/store/d1/model.onnx', bytes: 10, signature, manifest, labels: undefined, samples: '/samples' }
}

function save(name: string, more: Partial<Variant> = {}): Variant {
  const fidelity = { score: 0.99, definition: '', samples: 1, synthetic: false, outputs: {} }
  const variant: Variant = {
    ...{ id: `digits:1:${name}`, model: 'digits', version: '1', name, source: false, recipe: [], digest: `${name}-digest`, file: '/f', bytes: 1, fidelity },
    ...{ profile: undefined, state: 'ready', reason: '', sizeOnly: false, pinned: false, createdAt: '2026-01-01T00:00:00Z', ...more },
  }
  catalog.saveVariant(variant)
  return variant
}

const compress = (recipe: unknown, idempotencyKey?: string) =>
  builds.compress({ model: 'digits', recipe }, idempotencyKey === undefined ? {} : { idempotencyKey })
const errorOf = (run: () => unknown) => {
  try {
    run()
  } catch (error) {
    return error
  }
  return undefined
}

describe('asking for a variant', () => {
  test('submits a job that says all its process needs', () => {
    const { job, variant } = compress('int8-static')
    expect(variant).toBeUndefined()
    expect(job).toMatchObject({
      kind: 'compress',
      state: 'queued',
      payload: {
        ...{ model: 'digits', version: '1', variantName: 'int8-static', sourceFile: '/store/d1/model.onnx', sourceDigest: 'd1', samplesDir: '/samples' },
        ...{ request: 'int8-static', device: 'cpu', threads: 1, machine: 'here', batches: [1, 4, 16], minFidelity: 0.9, storeRoot: '/store' },
      },
    })
  })

  test('the manifest sets the least fidelity and the largest batch; a model that does not batch is measured alone', () => {
    digits = modelOf({ policy: { minFidelity: 0.5, maxBatch: 8 } })
    expect(compress('int8').job?.payload).toMatchObject({ minFidelity: 0.5, batches: [1, 4] })
    digits = modelOf({}, false)
    expect(compress('fp16').job?.payload).toMatchObject({ batches: [1] })
  })

  test('the same recipe, however written, is one job; another recipe is another', () => {
    const { job } = compress('int8-static')
    expect(compress([{ pass: 'int8-static' }]).job?.id).toBe(job?.id)
    expect(compress(' int8-static ').job?.id).toBe(job?.id)
    expect(compress('fp16').job?.id).not.toBe(job?.id)
  })

  test('the same file under another name is built and measured for itself', () => {
    const ids = [compress('int8').job?.id, builds.profile('digits').id]
    digits = { ...digits, name: 'copy' }
    ids.push(builds.compress({ model: 'copy', recipe: 'int8' }).job?.id, builds.profile('copy').id)
    expect(new Set(ids).size).toBe(4)
    expect(queue.list().map(({ payload }) => (payload as { model: string }).model)).toEqual(['copy', 'copy', 'digits', 'digits'])
  })

  test('an idempotency key gives back its job, and refuses other work', () => {
    const { job } = compress('int8', 'once')
    queue.cancel(job?.id as string)
    expect(compress('int8', 'once').job).toMatchObject({ id: job?.id, state: 'cancelled' })
    expect(errorOf(() => compress('fp16', 'once'))).toMatchObject({ code: 'conflict' })
  })

  test.each([
    ['no-such-pass', '/recipe/0/pass'],
    ['int8-static(nothing=1)', '/recipe/0/nothing'],
    [[], '/recipe'],
    [undefined, '/recipe'],
    [[{ pass: 'fp16' }, 7], '/recipe/1'],
  ])('a recipe like %j is refused at %s, and makes no job', (recipe, pointer) => {
    expect(errorOf(() => compress(recipe))).toMatchObject({ code: 'invalid_recipe', errors: [{ pointer }] })
    expect(queue.list()).toEqual([])
  })

  test('an unknown model is told before the recipe is looked at', () => {
    expect(errorOf(() => builds.compress({ model: 'none', recipe: 'no-such-pass' }))).toMatchObject({ code: 'model_not_found' })
  })

  test('only what the manifest allows is built', () => {
    digits = modelOf({ recipes: ['int8', 'fp16'] })
    expect(compress('fp16').job).toBeDefined()
    const error = errorOf(() => compress('int8-dynamic'))
    expect(error).toMatchObject({ code: 'invalid_recipe', errors: [{ pointer: '/recipe', detail: expect.stringContaining('expected one of int8, fp16') }] })
  })

  test('what was built before is returned at once, whatever the gate said of it', () => {
    const built = save('int8')
    expect(compress('int8')).toEqual({ variant: built })
    const rejected = save('fp16', { state: 'rejected', reason: 'slower' })
    expect(compress('fp16')).toEqual({ variant: rejected })
    expect(queue.list()).toEqual([])
  })

  test('the source model does not stand for a recipe of its name', () => {
    save('fp16', { source: true })
    expect(compress('fp16').job).toBeDefined()
  })
})

describe('asking for a search', () => {
  test('is one job for each model while it is under way, and says which variants were there before', () => {
    save('fp16')
    const search = (budgetSeconds?: number) => builds.compress({ model: 'digits', recipe: 'auto', ...(budgetSeconds === undefined ? {} : { budgetSeconds }) })
    const { job } = search()
    expect(job).toMatchObject({
      kind: 'search',
      payload: { model: 'digits', sourceFile: '/store/d1/model.onnx', budgetSeconds: 60, present: ['digits:1:fp16'], minFidelity: 0.9 },
    })
    expect(search(5).job?.id).toBe(job?.id)
    queue.cancel(job?.id as string)
    expect(search(5).job?.payload).toMatchObject({ budgetSeconds: 5 })
  })

  test('is refused where the manifest does not allow it, and time without it', () => {
    expect(errorOf(() => builds.compress({ model: 'digits', recipe: 'fp16', budgetSeconds: 5 }))).toMatchObject({ errors: [{ pointer: '/budgetSeconds' }] })
    digits = modelOf({ recipes: ['int8'] })
    expect(errorOf(() => compress('auto'))).toMatchObject({ code: 'invalid_recipe' })
    digits = modelOf({ recipes: ['int8', 'auto'] })
    expect(compress('auto').job).toMatchObject({ kind: 'search' })
  })

  test('is made on demand once, where the policy asks for it', async () => {
    const model = modelOf({ policy: { onDemand: ['auto'] } })
    expect(builds.next(model)).toBe('auto')
    const ended = builds.start(model, 'auto')
    queue.finish(queue.claim()?.id as string, { state: 'succeeded', result: null })
    await ended
    expect(builds.next(model)).toBeUndefined()
  })
})

describe('asking for a profile', () => {
  test('is one job for each model while it is under way', () => {
    const job = builds.profile('digits')
    expect(job).toMatchObject({
      kind: 'profile',
      payload: { model: 'digits', file: '/store/d1/model.onnx', machine: 'here', batches: [1, 4, 16], budgetMs: 50 },
    })
    expect(builds.profile('digits', '1').id).toBe(job.id)
    expect(errorOf(() => builds.profile('none'))).toMatchObject({ code: 'model_not_found' })
  })
})

describe('on demand', () => {
  const end = (state: 'succeeded' | 'failed' | 'cancelled') => {
    const job = queue.claim()
    if (state === 'failed') queue.finish(job?.id as string, { state, error: { code: 'internal', detail: 'crashed' } })
    else queue.finish(job?.id as string, state === 'succeeded' ? { state, result: null } : { state })
  }

  test('int8 is offered unless the policy says otherwise', () => {
    expect(builds.next(digits)).toBe('int8')
    expect(builds.next(modelOf({ policy: { onDemand: [] } }))).toBeUndefined()
    expect(builds.next(modelOf({ policy: { onDemand: ['fp16', 'int8'] } }))).toBe('fp16')
  })

  test('skips what was built, and what the gate turned down', () => {
    const model = modelOf({ policy: { onDemand: ['int8-static', 'int8-dynamic', 'fp16'] } })
    save('int8-static')
    expect(builds.next(model)).toBe('int8-dynamic')
    save('int8-dynamic', { state: 'rejected', reason: 'slower' })
    expect(builds.next(model)).toBe('fp16')
    save('fp16')
    expect(builds.next(model)).toBeUndefined()
  })

  test('skips what failed, but not what was cancelled', async () => {
    const model = modelOf({ policy: { onDemand: ['int8', 'fp16'] } })
    const cancelled = builds.start(model, 'int8')
    end('cancelled')
    await cancelled
    expect(builds.next(model)).toBe('int8')
    const failed = builds.start(model, 'int8')
    end('failed')
    await failed
    expect(builds.next(model)).toBe('fp16')
  })

  test('a build resolves when its job has ended, and joins one that is under way', async () => {
    const asked = compress('int8')
    let resolved = false
    const started = builds.start(digits, 'int8').then(() => {
      resolved = true
    })
    await new Promise((resolve) => setImmediate(resolve))
    expect(resolved).toBe(false)
    expect(queue.list().map(({ id }) => id)).toEqual([asked.job?.id])
    end('succeeded')
    await started
    expect(resolved).toBe(true)
  })
})
