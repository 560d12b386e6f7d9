/**
 * The schema, as steps from an empty database: step N takes version N to N + 1 (`PRAGMA user_version`).
 * A step is never edited once released; a new one is added.
 */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE sandboxes (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    metadata        TEXT NOT NULL,          -- canonical JSON; equal to that in the checkpoint
    checkpoint_hash TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('UNKNOWN', 'RUNNING', 'PENDING', 'STOPPED', 'REMOVING')),
    status          TEXT NOT NULL,          -- JSON: process, times, exit, step timings
    seal            TEXT NOT NULL           -- HMAC over all other columns
  ) STRICT;

  CREATE TABLE network_settings (
    sandbox_id TEXT PRIMARY KEY REFERENCES sandboxes (id) ON DELETE CASCADE,
    settings   TEXT NOT NULL,               -- JSON: the result of each attachment
    seal       TEXT NOT NULL
  ) STRICT;

  -- What each sandbox owns on this machine. The reference keeps a sandbox until all of it is given back.
  CREATE TABLE ledger (
    sandbox_id TEXT NOT NULL REFERENCES sandboxes (id),
    seq        INTEGER NOT NULL,            -- order of acquisition; release goes backwards
    kind       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('intended', 'held', 'releasing')),
    record     TEXT NOT NULL,               -- JSON: all that the release needs
    boot_id    TEXT NOT NULL,
    seal       TEXT NOT NULL,
    PRIMARY KEY (sandbox_id, seq)
  ) STRICT;

  CREATE TABLE node (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
  ) STRICT;
  `,
]
