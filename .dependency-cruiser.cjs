// Who may import whom. The table is the architecture: a layer may import itself, the layers listed
// beside it, and the leaves (errors, measurements); everything else is an error. Type-only imports count.

const layers = {
  tensor: [],
  chart: [],
  onnx: ['tensor'],
  wire: ['onnx', 'tensor'],
  runtime: ['onnx', 'tensor'],
  train: ['shard', 'onnx', 'runtime', 'tensor'],
  shard: ['onnx', 'runtime', 'tensor'],
  cluster: ['train', 'tensor'],
  compress: ['onnx', 'runtime', 'tensor'],
  registry: ['wire', 'onnx', 'tensor'],
  serving: ['registry', 'shard', 'runtime', 'tensor'],
  jobs: ['cluster', 'compress', 'train', 'shard', 'registry', 'runtime', 'onnx', 'tensor'],
  v2: ['serving', 'registry', 'wire', 'tensor'],
  http: ['v2', 'serving', 'registry', 'jobs', 'train', 'wire', 'tensor', 'chart', 'config'],
  grpc: ['v2', 'serving', 'shard', 'registry', 'wire', 'onnx', 'runtime', 'tensor', 'config'],
  telemetry: ['serving', 'config'],
  cli: ['app', 'config', 'cluster', 'compress', 'train', 'shard', 'onnx', 'jobs', 'registry', 'runtime', 'tensor', 'chart'],
}

const pathOf = (name) => `^src/${name}(/|\\.ts$)`
const leaves = ['errors', 'measurements']

/** One package, in a few files only. */
const only = (name, packages, files, comment) => ({
  name,
  comment,
  severity: 'error',
  from: { path: '^src/', pathNot: files },
  to: { path: `(^|node_modules/)(${packages})(/|$)` },
})

module.exports = {
  forbidden: [
    ...Object.entries(layers).map(([layer, allowed]) => ({
      name: `${layer}-layer`,
      comment: `${layer} may import ${[...allowed, ...leaves].join(', ')}; see docs/lifecycle.md`,
      severity: 'error',
      from: { path: pathOf(layer) },
      to: { path: '^src/', pathNot: [layer, ...allowed, ...leaves].map(pathOf) },
    })),
    {
      name: 'leaves',
      comment: 'errors, measurements and config describe; they know no layer (config reports by errors)',
      severity: 'error',
      from: { path: '^src/(errors|measurements|config)\\.ts$' },
      to: { path: '^src/', pathNot: '^src/errors\\.ts$' },
    },
    {
      name: 'nobody-imports-app',
      comment: 'app.ts wires the objects; only the command line starts it',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(cli/|app\\.ts$)' },
      to: { path: '^src/app(/|\\.ts$)' },
    },
    {
      name: 'nobody-imports-main',
      comment: 'main.ts is the entry; importing it would run the command line',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^src/main\\.ts$' },
    },
    only('fastify-in-http', 'fastify|@fastify', ['^src/http/', '^src/app\\.ts$'], 'Fastify stays in the door and the composition root'),
    only('runtime-in-session', 'onnxruntime-node|onnxruntime-common', ['^src/runtime/session\\.ts$'], 'One file knows the runtime binding'),
    only('sqlite-in-two-files', 'libsql', ['^src/registry/catalog\\.ts$', '^src/jobs/sqlite-queue\\.ts$'], 'SQLite stays behind the catalog and the queue'),
    only('redis-in-cluster', 'ioredis', ['^src/cluster/connection\\.ts$'], 'Redis stays behind the connections of cluster'),
    only('grpc-in-grpc', '@grpc', ['^src/grpc/'], 'gRPC stays in its door'),
    only('telemetry-libraries', 'prom-client|pino', ['^src/telemetry/'], 'Metrics and logging libraries stay in telemetry'),
    only('terminal-libraries', 'commander|cli-progress', ['^src/cli/', '^src/main\\.ts$'], 'Terminal libraries stay in the command line'),
    {
      name: 'no-circular',
      comment: 'A cycle means two files are one, or that a third is missing',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-orphans',
      comment: 'A file nobody imports is dead, unless it is an entry (main.ts, or a worker or process started by URL)',
      severity: 'error',
      from: { orphan: true, path: '^src/', pathNot: ['^src/main\\.ts$', '-(worker|process)\\.ts$'] },
      to: {},
    },
    {
      name: 'no-barrels',
      comment: 'A barrel hides where things live: import from the file that defines them',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '/(index|utils)\\.ts$' },
    },
    {
      name: 'no-dev-dependencies',
      comment: 'What src imports must be installed in production',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'resolvable',
      comment: 'Every import must resolve',
      severity: 'error',
      from: { path: '^src/' },
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    detectProcessBuiltinModuleCalls: true,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'types', 'node', 'default'], mainFields: ['module', 'main', 'types'] },
  },
}
