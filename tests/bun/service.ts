// A service under Bun that stores its state like go-go-scope, in plain SQL on bun:sqlite.
//
//     bun service.ts FILE PREFIX
//
// Each input line is a call, ["name", ...arguments]; each output line is its result.
// JavaScript expressions stand for values that JSON cannot represent.

import { Database } from "bun:sqlite";
import { createInterface } from "node:readline";

const [path, prefix = ""] = process.argv.slice(2);
const db = new Database(path!);
db.run("PRAGMA busy_timeout = 60000"); // by default bun:sqlite does not wait for a lock

db.run(`CREATE TABLE IF NOT EXISTS go_goscope_circuit (
  key TEXT PRIMARY KEY, state TEXT NOT NULL, failure_count INTEGER NOT NULL DEFAULT 0,
  last_failure_time INTEGER, last_success_time INTEGER, updated_at INTEGER NOT NULL)`);
db.run(`CREATE TABLE IF NOT EXISTS go_goscope_cache (
  key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at INTEGER,
  created_at INTEGER DEFAULT (strftime('%s', 'now')))`);
db.run(`CREATE TABLE IF NOT EXISTS go_goscope_checkpoints (
  id TEXT PRIMARY KEY, task_id TEXT NOT NULL, sequence INTEGER NOT NULL,
  timestamp INTEGER NOT NULL, progress INTEGER NOT NULL DEFAULT 0, data TEXT NOT NULL,
  estimated_time_remaining INTEGER, created_at INTEGER DEFAULT (strftime('%s', 'now')))`);
db.run(`CREATE TABLE IF NOT EXISTS go_goscope_idempotency (
  key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at INTEGER,
  created_at INTEGER DEFAULT (strftime('%s', 'now')),
  updated_at INTEGER DEFAULT (strftime('%s', 'now')))`);
db.run("CREATE INDEX IF NOT EXISTS idx_cache_expires ON go_goscope_cache (expires_at)");
db.run("CREATE INDEX IF NOT EXISTS idx_idempotency_expires ON go_goscope_idempotency (expires_at)");
db.run("CREATE INDEX IF NOT EXISTS idx_checkpoints_task ON go_goscope_checkpoints (task_id)");
db.run(`CREATE INDEX IF NOT EXISTS idx_checkpoints_sequence
  ON go_goscope_checkpoints (task_id, sequence)`);

type Row = Record<string, any>;

const seconds = () => Math.floor(Date.now() / 1000);
const expiry = (ttl?: number) => (ttl ? Math.floor((Date.now() + ttl) / 1000) : null);
const evaluate = (expression: string) => new Function(`return (${expression})`)();

const readCache = db.query<Row, any[]>(
  "SELECT value FROM go_goscope_cache WHERE key = ? AND (expires_at IS NULL OR expires_at > ?)",
);
const writeCache = db.query(
  `INSERT INTO go_goscope_cache (key, value, expires_at) VALUES (?, ?, ?)
   ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at`,
);
const countInCache = db.query(
  `INSERT INTO go_goscope_cache (key, value) VALUES (?, '1')
   ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)`,
);
const readResult = db.query<Row, any[]>(
  `SELECT value, expires_at FROM go_goscope_idempotency
   WHERE key = ? AND (expires_at IS NULL OR expires_at > ?)`,
);
const writeResult = db.query(
  `INSERT INTO go_goscope_idempotency (key, value, expires_at) VALUES (?, ?, ?)
   ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at`,
);
const readCircuit = db.query<Row, any[]>("SELECT * FROM go_goscope_circuit WHERE key = ?");
const writeCircuit = db.query(
  `INSERT OR REPLACE INTO go_goscope_circuit
   (key, state, failure_count, last_failure_time, last_success_time, updated_at)
   VALUES (?, ?, ?, ?, ?, ?)`,
);
const countInCircuit = db.query(
  `INSERT INTO go_goscope_circuit (key, state, failure_count, last_failure_time, updated_at)
   VALUES (?1, 'closed', 1, ?2, ?2) ON CONFLICT (key) DO UPDATE SET
   failure_count = failure_count + 1, last_failure_time = ?2, updated_at = ?2`,
);
const readCheckpoints = db.query<Row, any[]>(
  "SELECT * FROM go_goscope_checkpoints WHERE task_id = ? ORDER BY sequence DESC",
);
const writeCheckpoint = db.query(
  `INSERT INTO go_goscope_checkpoints
   (id, task_id, sequence, timestamp, progress, data, estimated_time_remaining)
   VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
   sequence = excluded.sequence, timestamp = excluded.timestamp, progress = excluded.progress,
   data = excluded.data, estimated_time_remaining = excluded.estimated_time_remaining`,
);

const calls = {
  set: (key: string, expression: string, ttl?: number) =>
    writeCache.run(`${prefix}cache:${key}`, JSON.stringify(evaluate(expression)), expiry(ttl)),

  has: (key: string) => readCache.get(`${prefix}cache:${key}`, seconds()) !== null,

  // Whether the value of the key equals that of the expression, including the sign of zero.
  is(key: string, expression: string) {
    const row = readCache.get(`${prefix}cache:${key}`, seconds());
    return row !== null && Bun.deepEquals(JSON.parse(row.value), evaluate(expression), true);
  },

  keys: () =>
    db.query<Row, any[]>("SELECT key FROM go_goscope_cache ORDER BY key").all().map((row) => row.key),

  setResult: (key: string, expression: string, ttl?: number) =>
    writeResult.run(prefix + key, JSON.stringify(evaluate(expression)), expiry(ttl)),

  result(key: string) {
    const row = readResult.get(prefix + key, seconds());
    return row && { value: JSON.parse(row.value), expiresAt: row.expires_at };
  },

  setCircuit: (key: string, state: string, failures: number, failed: number, succeeded: number) =>
    writeCircuit.run(`${prefix}circuit:${key}`, state, failures, failed, succeeded, Date.now()),

  circuit: (key: string) => readCircuit.get(`${prefix}circuit:${key}`),

  saveCheckpoint: (id: string, task: string, sequence: number, progress: number, data: string) =>
    writeCheckpoint.run(
      id, task, sequence, Date.now(), progress, JSON.stringify(evaluate(data)), null,
    ),

  checkpoints: (task: string) =>
    readCheckpoints.all(task).map((row) => ({ ...row, data: JSON.parse(row.data) })),

  query: (sql: string) => db.query<Row, any[]>(sql).all(),

  // Work for so many milliseconds and rounds beside other processes. Return what was done.
  hammer(name: string, ms: number, minRounds: number) {
    const done = { increments: 0, failures: 0, entries: 0, checkpoints: 0, torn: 0 };
    const end = Date.now() + ms;
    for (let number = 1; Date.now() < end || number <= minRounds; number++) {
      Bun.sleepSync(1); // a service has other work, too
      countInCache.run(`${prefix}cache:count`);
      done.increments++;
      countInCircuit.run(`${prefix}circuit:shared`, Date.now());
      done.failures++;
      const entry = JSON.stringify({ from: name, number, text: "é\u2028😀".repeat(number % 50) });
      writeCache.run(`${prefix}cache:${name}:${number}`, entry, expiry(3_600_000));
      done.entries++;
      writeCache.run(`${prefix}cache:brief:${name}`, entry, expiry(1000));
      writeCheckpoint.run(
        `${name}-${number}`, name, number, Date.now(), number / 3, entry, null,
      );
      done.checkpoints++;
      for (const row of db.query<Row, any[]>(
        "SELECT key, value FROM go_goscope_cache WHERE key GLOB ? ORDER BY random() LIMIT 2",
      ).all(`${prefix}cache:brief:*`)) {
        const value = JSON.parse(row.value);
        if (row.key !== `${prefix}cache:brief:${value.from}`) done.torn++;
      }
    }
    return done;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...rest] = JSON.parse(line);
  const result = (calls as Record<string, (...rest: any[]) => unknown>)[name]!(...rest);
  console.log(JSON.stringify(result ?? null));
}
db.close();
