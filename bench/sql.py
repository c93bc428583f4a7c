"""SQL as a programmer would write it for goscope's tables."""

from __future__ import annotations

from typing import Final

_LIVE: Final = "(expires_at IS NULL OR expires_at > ?)"

GET: Final = f"SELECT value FROM go_goscope_cache WHERE key = ? AND {_LIVE}"
GET_MANY: Final = f"""
    SELECT key, value FROM go_goscope_cache
    WHERE key IN (SELECT value FROM json_each(?)) AND {_LIVE}
"""
SET: Final = """
    INSERT INTO go_goscope_cache (key, value, expires_at, created_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET
        value = excluded.value, expires_at = excluded.expires_at, created_at = excluded.created_at
"""
KEYS_PAGE: Final = f"""
    SELECT key FROM go_goscope_cache WHERE key >= ? AND key < ? AND {_LIVE} ORDER BY key LIMIT ?
"""
PRUNE_PAGE: Final = """
    DELETE FROM go_goscope_cache WHERE rowid IN (
        SELECT rowid FROM go_goscope_cache WHERE expires_at <= ? LIMIT ?
    )
"""
FAILURE: Final = """
    INSERT INTO go_goscope_circuit (key, state, failure_count, last_failure_time, updated_at)
    VALUES (?1, 'closed', 1, ?2, ?2)
    ON CONFLICT (key) DO UPDATE SET failure_count = failure_count + 1,
        last_failure_time = excluded.last_failure_time, updated_at = excluded.updated_at
    RETURNING failure_count
"""
STATE: Final = "SELECT state, failure_count FROM go_goscope_circuit WHERE key = ?"
CHECKPOINT: Final = """
    INSERT INTO go_goscope_checkpoints (id, task_id, sequence, timestamp, progress, data)
    VALUES (?, ?, ?, ?, ?, ?)
"""
LATEST: Final = """
    SELECT data FROM go_goscope_checkpoints WHERE task_id = ? ORDER BY sequence DESC LIMIT 1
"""
REPLAY: Final = f"SELECT value FROM go_goscope_idempotency WHERE key = ? AND {_LIVE}"
REMEMBER: Final = """
    INSERT OR REPLACE INTO go_goscope_idempotency (key, value, expires_at) VALUES (?, '1', ?)
"""
TOKEN: Final = "UPDATE go_goscope_meta SET value = value + 1 WHERE key = 'token' RETURNING value"
TAKE: Final = """
    INSERT INTO go_goscope_locks
        (key, owner, token, expires_at, boot_id, host, pid, pid_namespace, started, acquired_at)
    VALUES (?1, 'me', ?2, ?3, '', '', 0, '', '', ?4)
    ON CONFLICT (key) DO UPDATE SET token = excluded.token, expires_at = excluded.expires_at
    WHERE expires_at <= ?4
"""
RELEASE: Final = "DELETE FROM go_goscope_locks WHERE key = ? AND token = ?"
