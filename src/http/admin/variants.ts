// Variants: their profiles, fidelity, decision reports and artifacts; pinning and deleting them.
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { FastifyReply } from 'fastify'
import { Type } from 'typebox'
import { FlyweightError } from '../../errors.js'
import type { Catalog } from '../../registry/catalog.js'
import type { Variant } from '../../registry/model.js'
import { answer, component, emptyAnswer, failures, strict } from '../answers.js'
import type { Scope, Services } from '../services.js'
import * as examples from './examples.js'

const tags = ['admin']
const params = Type.Object({ id: Type.String({ description: '`<model>:<version>:<name>`', examples: ['digits:1:int8'] }) }, strict)
const one = { 200: answer('The variant', component('Variant'), examples.variant), ...failures('variant_not_found') }

/** @throws FlyweightError `variant_not_found` */
export function variantOf(catalog: Catalog, id: string): Variant {
  const variant = catalog.variant(id)
  if (!variant) throw new FlyweightError('variant_not_found', `there is no variant ${JSON.stringify(id)}; GET /admin/variants lists them`)
  return variant
}

/** A variant without the paths of this machine. */
export function variantView({ file: _file, ...variant }: Variant): object {
  return variant
}

export function variantRoutes(scope: Scope, services: Services): void {
  const { catalog, store } = services
  scope.get(
    '/admin/variants',
    {
      schema: {
        operationId: 'listVariants',
        tags,
        summary: 'All variants, with what was measured about them',
        querystring: Type.Object(
          {
            model: Type.Optional(Type.String()),
            version: Type.Optional(Type.String()),
            state: Type.Optional(Type.Enum(['ready', 'rejected', 'quarantined'])),
          },
          strict,
        ),
        response: {
          200: answer('The variants', Type.Object({ variants: Type.Array(component('Variant')) }), { variants: [examples.variant] }),
          ...failures('malformed', 'unknown_field'),
        },
      },
    },
    ({ query }) => ({
      variants: catalog
        .allVariants()
        .filter(({ model, version, state }) => model === (query.model ?? model) && version === (query.version ?? version) && state === (query.state ?? state))
        .map(variantView),
    }),
  )
  scope.get('/admin/variants/:id', { schema: { operationId: 'getVariant', tags, summary: 'One variant', params, response: one } }, (request) =>
    variantView(variantOf(catalog, request.params.id)),
  )
  scope.get(
    '/admin/variants/:id/report',
    {
      schema: {
        operationId: 'getReport',
        tags,
        summary: 'Decision report: what each pass did to each node, or why it did not',
        params,
        response: { 200: answer('The report', component('Report'), examples.report), ...failures('variant_not_found', 'not_found') },
      },
    },
    (request) => {
      const { id, digest } = variantOf(catalog, request.params.id)
      const report = store.readReport(digest)
      if (!report) throw new FlyweightError('not_found', `${id} has no decision report: it was not built here`)
      return report
    },
  )
  artifactRoute(scope, services)
  changeRoutes(scope, services)
}

function artifactRoute(scope: Scope, { catalog }: Services): void {
  scope.get(
    '/admin/variants/:id/artifact',
    {
      schema: {
        operationId: 'downloadArtifact',
        tags,
        summary: 'Download the ONNX file',
        params,
        querystring: Type.Object(
          { file: Type.Optional(Type.String({ description: 'A file of external data, where the model has any; default model.onnx' })) },
          strict,
        ),
        response: {
          200: {
            description: 'The file; `ETag` is its digest',
            content: { 'application/octet-stream': { schema: Type.Unsafe({ type: 'string', format: 'binary' }), example: 'the bytes of model.onnx' } },
          },
          304: emptyAnswer('`If-None-Match` names the digest'),
          ...failures('malformed', 'unknown_field', 'variant_not_found', 'not_found'),
        },
      },
    },
    async (request, reply) => {
      const variant = variantOf(catalog, request.params.id)
      const name = request.query.file ?? 'model.onnx'
      const etag = `"${variant.digest}${name === 'model.onnx' ? '' : `-${encodeURIComponent(name)}`}"`
      reply.header('etag', etag).header('cache-control', 'private, no-cache')
      if (request.headers['if-none-match']?.split(/\s*,\s*/).includes(etag)) return reply.code(304).send()
      return sendArtifact(reply, variant, name)
    },
  )
}

/** Only names that are listed in the artifact's own folder are opened. */
async function sendArtifact(reply: FastifyReply, { id, name: variantName, model, file }: Variant, name: string): Promise<FastifyReply> {
  const folder = dirname(file)
  const names = (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isFile() && entry.name !== 'report.json').map((entry) => entry.name)
  if (!names.includes(name)) throw new FlyweightError('not_found', `${id} has no file ${JSON.stringify(name)}, expected one of ${names.join(', ')}`)
  const { size } = await stat(join(folder, name))
  const shown = name === 'model.onnx' ? `${model}-${variantName}.onnx` : name
  return reply
    .type('application/octet-stream')
    .header('content-length', size)
    .header('content-disposition', `attachment; filename*=UTF-8''${encodeURIComponent(shown)}`)
    .send(createReadStream(join(folder, name)))
}

function changeRoutes(scope: Scope, { catalog, gateway, store }: Services): void {
  for (const [method, pinned] of [
    ['PUT', true],
    ['DELETE', false],
  ] as const) {
    scope.route({
      method,
      url: '/admin/variants/:id/pin',
      schema: {
        operationId: pinned ? 'pinVariant' : 'unpinVariant',
        tags,
        summary: pinned ? 'Keep a variant in memory once it is loaded' : 'Let a variant be evicted again',
        params,
        response: one,
      },
      handler: (request) => {
        const { id } = variantOf(catalog, request.params.id)
        catalog.setPinned(id, pinned)
        return variantView(variantOf(catalog, id))
      },
    })
  }
  scope.delete(
    '/admin/variants/:id',
    {
      schema: {
        operationId: 'deleteVariant',
        tags,
        summary: 'Delete a variant and its artifact; the source model itself goes with DELETE /admin/models',
        params,
        response: { 204: emptyAnswer('Deleted'), ...failures('variant_not_found', 'conflict') },
      },
    },
    async (request, reply) => {
      const { id, source, digest } = variantOf(catalog, request.params.id)
      if (source) throw new FlyweightError('conflict', `${id} is the model itself; DELETE /admin/models/… removes it`)
      catalog.deleteVariant(id)
      await gateway.evict(id)
      if (!catalog.allVariants().some((other) => other.digest === digest)) await store.remove(digest)
      return reply.code(204).send()
    },
  )
}
