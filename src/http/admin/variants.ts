// Variants: their profiles, fidelity, decision reports and artifacts; pinning and deleting them.
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createGunzip } from 'node:zlib'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { FlyweightError } from '../../errors.js'
import type { ArtifactFile } from '../../registry/artifact-store.js'
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

function artifactRoute(scope: Scope, { catalog, store }: Services): void {
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
            description: 'The file; `ETag` is its digest. Sparse files go out as they are kept, in gzip, to clients that accept it',
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
      const files = await store.files(variant.digest)
      const file = files.find((one) => one.name === name)
      if (file === undefined)
        throw new FlyweightError('not_found', `${variant.id} has no file ${JSON.stringify(name)}, expected one of ${files.map((one) => one.name).join(', ')}`)
      return sendArtifact(request, reply, { variant, file: { ...file, size: (await stat(file.path)).size } })
    },
  )
}

/** Only files that are part of the artifact are opened. One that is kept packed goes out as it is to who takes gzip. */
function sendArtifact(
  request: FastifyRequest,
  reply: FastifyReply,
  { variant, file }: { variant: Variant; file: ArtifactFile & { size: number } },
): FastifyReply {
  const { name, path, packed, size } = file
  const etag = `${variant.digest}${name === 'model.onnx' ? '' : `-${encodeURIComponent(name)}`}`
  const encoded = packed && acceptsGzip(request)
  const [own, other] = encoded ? [`"${etag}+gzip"`, `"${etag}"`] : [`"${etag}"`, `"${etag}+gzip"`]
  reply.header('etag', own).header('cache-control', 'private, no-cache')
  if (packed) reply.header('vary', 'accept-encoding')
  if (request.headers['if-none-match']?.split(/\s*,\s*/).some((tag) => tag === own || tag === other)) return reply.code(304).send()
  const shown = name === 'model.onnx' ? `${variant.model}-${variant.name}.onnx` : name
  reply.type('application/octet-stream').header('content-disposition', `attachment; filename*=UTF-8''${encodeURIComponent(shown)}`)
  if (packed && !encoded) return reply.send(createReadStream(path).pipe(createGunzip()))
  if (encoded) reply.header('content-encoding', 'gzip')
  return reply.header('content-length', size).send(createReadStream(path))
}

function acceptsGzip({ headers }: FastifyRequest): boolean {
  return /(^|,)\s*(gzip|\*)(?![\w-]|\s*;\s*q=0(\.0*)?\s*(,|$))/i.test(headers['accept-encoding'] ?? '')
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
