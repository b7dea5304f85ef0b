# syntax=docker/dockerfile:1
# Three stages: build with all dependencies, install the production ones, and run with neither a
# compiler nor a package manager's cache. The runtime's binaries need glibc, so the base is Debian.

FROM node:20.19-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json ./
COPY scripts ./scripts
COPY src ./src
RUN node scripts/build.mjs

FROM node:20.19-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The runtime's package carries every platform's binaries; this image needs only its own.
RUN npm ci --omit=dev \
  && rm -rf node_modules/onnxruntime-node/bin/napi-v6/darwin node_modules/onnxruntime-node/bin/napi-v6/win32 \
  && if [ "$(uname -m)" = "x86_64" ]; then rm -rf node_modules/onnxruntime-node/bin/napi-v6/linux/arm64; \
     else rm -rf node_modules/onnxruntime-node/bin/napi-v6/linux/x64; fi

FROM node:20.19-bookworm-slim
# tini reaps the job processes and forwards signals. Its version is the Debian release's, which only takes fixes.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends tini \
  && rm -rf /var/lib/apt/lists/*
# The malloc settings make memory of unloaded models go back to the system (src/runtime/malloc.ts).
ENV NODE_ENV=production \
  MALLOC_MMAP_THRESHOLD_=524288 \
  MALLOC_TRIM_THRESHOLD_=131072 \
  GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
  PORT=8080
WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json LICENSE ./
COPY proto ./proto
COPY config ./config
COPY models ./models
COPY examples/digit.json ./examples/digit.json
RUN mkdir /data && chown node:node /data
USER node
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
STOPSIGNAL SIGTERM
# The flag is that of src/runtime/malloc.ts too.
ENTRYPOINT ["tini", "--", "node", "--initial-old-space-size=128", "dist/main.js"]
# A container's port is published by whoever runs it, so it listens on all of its own addresses.
CMD ["serve", "--host", "0.0.0.0", "--data", "/data"]
