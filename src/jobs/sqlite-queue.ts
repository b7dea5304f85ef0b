// The default JobQueue: one SQLite file. What was accepted survives kill −9: a job whose gateway is gone
// is queued again, at most three times. Progress and log lines of a running job live in memory and are
// written when it ends. Which process runs a job is runner.ts's affair.
import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import Database from 'libsql'
import { FlyweightError } from '../errors.js'
import type { Job, JobKind, JobProgress, JobQueue, JobState } from './queue.js'

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, state TEXT NOT NULL, key TEXT NOT NULL,
    payload TEXT NOT NULL, progress TEXT NOT NULL, log TEXT NOT NULL, result TEXT, error TEXT, attempts INTEGER NOT NULL,
    created_at TEXT NOT NULL, started_at TEXT, finished_at TEXT, owner TEXT, owner_pid INTEGER, lease_until INTEGER
  );
  CREATE UNIQUE INDEX IF NOT EXISTS jobs_single_flight ON jobs (key) WHERE state IN ('queued', 'running');
  CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, seq);
  CREATE TABLE IF NOT EXISTS idempotency (idempotency_key TEXT PRIMARY KEY, job_id TEXT NOT NULL, job_key TEXT NOT NULL) WITHOUT ROWID;
`
const MOST_ATTEMPTS = 3
const LEASE_MS = 60_000
const LOG_LINES = 200
/** Finished jobs kept for looking up; older ones are forgotten. */
const KEPT_FINISHED = 1000
const NOT_STARTED: JobProgress = { fraction: 0, step: 'waiting' }

interface Row {
  id: string
  kind: JobKind
  state: JobState
  key: string
  payload: string
  progress: string
  log: string
  result: string | null
  error: string | null
  attempts: number
  created_at: string
  started_at: string | null
  finished_at: string | null
}

export class SqliteQueue implements JobQueue {
  readonly #database: Database.Database
  readonly #owner = randomBytes(8).toString('hex')
  readonly #events = new EventEmitter().setMaxListeners(0)
  readonly #live = new Map<string, { progress: JobProgress; log: string[]; result?: unknown }>()
  readonly #leases: NodeJS.Timeout

  /** Opens `file`, or makes it, and queues again what a process that is gone had been running. */
  constructor(file: string) {
    mkdirSync(dirname(file), { recursive: true })
    this.#database = new Database(file)
    this.#database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;')
    this.#database.exec(SCHEMA)
    this.#recover()
    this.#leases = setInterval(() => this.#renewLeases(), LEASE_MS / 4).unref()
  }

  submit(kind: JobKind, payload: unknown, { key, idempotencyKey }: { key: string; idempotencyKey?: string }): Job {
    const { id, added } = this.#write(() => {
      const earlier = idempotencyKey === undefined ? undefined : this.#idempotent(idempotencyKey, key)
      if (earlier !== undefined) return { id: earlier, added: false }
      const active = this.#one<{ id: string }>("SELECT id FROM jobs WHERE key = ? AND state IN ('queued', 'running')", key)
      const id = active?.id ?? `job-${randomBytes(6).toString('hex')}`
      if (active === undefined) {
        this.#run(
          "INSERT INTO jobs (id, kind, state, key, payload, progress, log, attempts, created_at) VALUES (?, ?, 'queued', ?, ?, ?, '[]', 0, ?)",
          ...[id, kind, key, JSON.stringify(payload ?? null), JSON.stringify(NOT_STARTED), new Date().toISOString()],
        )
      }
      if (idempotencyKey !== undefined) this.#run('INSERT INTO idempotency VALUES (?, ?, ?)', idempotencyKey, id, key)
      return { id, added: active === undefined }
    })
    return added ? this.#changed(id) : this.get(id)
  }

  get(id: string): Job {
    const row = this.#one<Row>('SELECT * FROM jobs WHERE id = ?', id)
    if (row === undefined) throw new FlyweightError('job_not_found', `there is no job "${id}"`)
    return this.#job(row)
  }

  /** Newest first. */
  list({ state, kind }: { state?: JobState; kind?: JobKind } = {}): Job[] {
    const rows = this.#database
      .prepare('SELECT * FROM jobs WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR kind = ?2) ORDER BY seq DESC')
      .all(state ?? null, kind ?? null) as Row[]
    return rows.map((row) => this.#job(row))
  }

  cancel(id: string): Job {
    const { state } = this.get(id)
    if (state !== 'queued' && state !== 'running') return this.get(id)
    this.#end(id, { state: 'cancelled' })
    return this.get(id)
  }

  claim(): Job | undefined {
    const row = this.#one<{ id: string }>(
      `UPDATE jobs SET state = 'running', attempts = attempts + 1, started_at = ?, owner = ?, owner_pid = ?, lease_until = ?
       WHERE seq = (SELECT seq FROM jobs WHERE state = 'queued' ORDER BY seq LIMIT 1) RETURNING id`,
      ...[new Date().toISOString(), this.#owner, process.pid, Date.now() + LEASE_MS],
    )
    if (row === undefined) return undefined
    this.#live.set(row.id, { progress: { fraction: 0, step: 'starting' }, log: [] })
    return this.#changed(row.id)
  }

  report(id: string, progress: JobProgress, logLine?: string): void {
    const live = this.#live.get(id)
    if (live === undefined) return
    live.progress = progress
    if (logLine !== undefined) live.log = [...live.log.slice(1 - LOG_LINES), logLine]
    this.#told(id)
  }

  noteResult(id: string, result: unknown): void {
    const live = this.#live.get(id)
    if (live === undefined) return
    live.result = result
    this.#told(id)
  }

  release(id: string): void {
    const released = this.#run(
      "UPDATE jobs SET state = 'queued', attempts = attempts - 1, started_at = NULL, owner = NULL WHERE id = ? AND owner = ? AND state = 'running'",
      ...[id, this.#owner],
    )
    this.#live.delete(id)
    if (released) this.#changed(id)
  }

  finish(id: string, outcome: Parameters<JobQueue['finish']>[1]): void {
    const { state } = this.get(id)
    if (state === 'running') this.#end(id, outcome)
  }

  watch(id: string, listener: (job: Job) => void): () => void {
    this.#events.on(id, listener)
    return () => this.#events.off(id, listener)
  }

  close(): void {
    clearInterval(this.#leases)
    this.#events.removeAllListeners()
    this.#database.close()
  }

  #end(id: string, outcome: Parameters<JobQueue['finish']>[1]): void {
    const { progress, log, result } = this.get(id)
    const ended = outcome.state === 'succeeded' ? { fraction: 1, step: 'done' } : { fraction: progress.fraction, step: progress.step }
    this.#write(() => {
      this.#run(
        'UPDATE jobs SET state = ?, progress = ?, log = ?, result = ?, error = ?, finished_at = ?, owner = NULL WHERE id = ?',
        ...[outcome.state, JSON.stringify(ended), JSON.stringify(log)],
        jsonOrNull(outcome.state === 'succeeded' ? (outcome.result ?? null) : outcome.state === 'cancelled' ? result : undefined),
        outcome.state === 'failed' ? JSON.stringify(outcome.error) : null,
        ...[new Date().toISOString(), id],
      )
      this.#forgetOldest()
    })
    this.#live.delete(id)
    this.#changed(id)
    this.#events.removeAllListeners(id)
  }

  #forgetOldest(): void {
    const oldest = this.#one<{ seq: number }>("SELECT seq FROM jobs WHERE state NOT IN ('queued', 'running') ORDER BY seq DESC LIMIT 1 OFFSET ?", KEPT_FINISHED)
    if (oldest === undefined) return
    this.#run("DELETE FROM jobs WHERE seq <= ? AND state NOT IN ('queued', 'running')", oldest.seq)
    this.#run('DELETE FROM idempotency WHERE job_id NOT IN (SELECT id FROM jobs)')
  }

  /** The job an idempotency key made before. The same key for other work is a mistake of the client, told as a conflict. */
  #idempotent(idempotencyKey: string, key: string): string | undefined {
    const earlier = this.#one<{ job_id: string; job_key: string }>('SELECT job_id, job_key FROM idempotency WHERE idempotency_key = ?', idempotencyKey)
    if (earlier !== undefined && earlier.job_key !== key) {
      throw new FlyweightError('conflict', `the idempotency key "${idempotencyKey}" was used for another request (job ${earlier.job_id}); use a new one`)
    }
    return earlier?.job_id
  }

  /** Jobs whose process is gone, or has not renewed its lease, are queued again, or failed after the last attempt. */
  #recover(): void {
    const running = this.#database.prepare("SELECT id, attempts, owner_pid, lease_until FROM jobs WHERE state = 'running'").all() as {
      id: string
      attempts: number
      owner_pid: number
      lease_until: number
    }[]
    // A process of this id that is not this queue's own instance is a former one: containers reuse ids.
    const orphans = running.filter((job) => job.owner_pid === process.pid || job.lease_until < Date.now() || !isAlive(job.owner_pid))
    for (const { id, attempts } of orphans) {
      if (attempts < MOST_ATTEMPTS) this.#run("UPDATE jobs SET state = 'queued', owner = NULL WHERE id = ?", id)
      else this.#end(id, { state: 'failed', error: { code: 'internal', detail: `the gateway ended during each of ${attempts} attempts to run this job` } })
    }
  }

  #renewLeases(): void {
    if (this.#live.size > 0) this.#run("UPDATE jobs SET lease_until = ? WHERE owner = ? AND state = 'running'", Date.now() + LEASE_MS, this.#owner)
  }

  /** Spares reading a job that nobody watches. */
  #told(id: string): void {
    if (this.#events.listenerCount(id) + this.#events.listenerCount('*') > 0) this.#changed(id)
  }

  #changed(id: string): Job {
    const job = this.get(id)
    this.#events.emit(id, job)
    this.#events.emit('*', job)
    return job
  }

  #job(row: Row): Job {
    const live = row.state === 'running' ? this.#live.get(row.id) : undefined
    return {
      id: row.id,
      kind: row.kind,
      state: row.state,
      key: row.key,
      payload: JSON.parse(row.payload),
      progress: live?.progress ?? (JSON.parse(row.progress) as JobProgress),
      log: live?.log ?? (JSON.parse(row.log) as string[]),
      result: row.result === null ? live?.result : JSON.parse(row.result),
      error: row.error === null ? undefined : (JSON.parse(row.error) as NonNullable<Job['error']>),
      attempts: row.attempts,
      createdAt: row.created_at,
      startedAt: row.started_at ?? undefined,
      finishedAt: row.finished_at ?? undefined,
    }
  }

  #write<Result>(work: () => Result): Result {
    return this.#database.transaction(work).immediate()
  }

  #one<Found>(sql: string, ...parameters: (string | number | null)[]): Found | undefined {
    return this.#database.prepare(sql).get(...parameters) as Found | undefined
  }

  /** True when a row changed. */
  #run(sql: string, ...parameters: (string | number | null)[]): boolean {
    return this.#database.prepare(sql).run(...parameters).changes > 0
  }
}

function jsonOrNull(value: unknown): string | null {
  return value === undefined ? null : JSON.stringify(value)
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
