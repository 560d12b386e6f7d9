/** One step between two versions of the schema. A step is never edited once released; a new one is added. */
export interface Migration {
  /** SQL that takes version N to N + 1. */
  readonly up: string
  /** SQL that takes N + 1 back to N, when nothing is lost by that; undefined where there is no way back. */
  readonly down?: {
    /** A query for a text about each thing that version N cannot hold; none when nothing is lost. */
    readonly losses: string
    readonly sql: string
  }
}

/** The schema, as steps from an empty database: step N takes version N to N + 1 (`PRAGMA user_version`). */
export const MIGRATIONS: readonly Migration[] = [
  {
    up: `
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
  },
  {
    up: `
  CREATE TABLE containers (
    id         TEXT PRIMARY KEY,
    sandbox_id TEXT NOT NULL REFERENCES sandboxes (id), -- keeps the sandbox until its containers are gone
    name       TEXT NOT NULL UNIQUE,
    metadata   TEXT NOT NULL,               -- canonical JSON
    state      TEXT NOT NULL CHECK (state IN ('CREATED', 'RUNNING', 'EXITED', 'UNKNOWN')),
    status     TEXT NOT NULL,               -- JSON: process, times, exit, user, resources
    seal       TEXT NOT NULL                -- HMAC over all other columns
  ) STRICT;
  CREATE INDEX containers_of_sandbox ON containers (sandbox_id);

  -- The ledger is of containers, too: its owner is a row of either table, and is kept until all of it is given back.
  CREATE TABLE ledger_of_owners (
    owner_id TEXT NOT NULL,
    seq      INTEGER NOT NULL,              -- order of acquisition; release goes backwards
    kind     TEXT NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('intended', 'held', 'releasing')),
    record   TEXT NOT NULL,                 -- JSON: all that the release needs
    boot_id  TEXT NOT NULL,
    seal     TEXT NOT NULL,
    PRIMARY KEY (owner_id, seq)
  ) STRICT;
  INSERT INTO ledger_of_owners SELECT * FROM ledger;
  DROP TABLE ledger;
  ALTER TABLE ledger_of_owners RENAME TO ledger;

  CREATE TRIGGER sandboxes_own BEFORE DELETE ON sandboxes
    WHEN EXISTS (SELECT 1 FROM ledger WHERE owner_id = OLD.id)
    BEGIN SELECT RAISE(ABORT, 'the sandbox owns something yet'); END;
  CREATE TRIGGER containers_own BEFORE DELETE ON containers
    WHEN EXISTS (SELECT 1 FROM ledger WHERE owner_id = OLD.id)
    BEGIN SELECT RAISE(ABORT, 'the container owns something yet'); END;
  `,
    down: {
      losses: `
  SELECT 'container ' || id FROM containers
  UNION SELECT kind || ' of ' || owner_id FROM ledger WHERE owner_id NOT IN (SELECT id FROM sandboxes)
  `,
      sql: `
  DROP TRIGGER sandboxes_own;
  DROP TRIGGER containers_own;
  CREATE TABLE ledger_of_sandboxes (
    sandbox_id TEXT NOT NULL REFERENCES sandboxes (id),
    seq        INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('intended', 'held', 'releasing')),
    record     TEXT NOT NULL,
    boot_id    TEXT NOT NULL,
    seal       TEXT NOT NULL,
    PRIMARY KEY (sandbox_id, seq)
  ) STRICT;
  INSERT INTO ledger_of_sandboxes SELECT * FROM ledger;
  DROP TABLE ledger;
  ALTER TABLE ledger_of_sandboxes RENAME TO ledger;
  DROP TABLE containers;
  `,
    },
  },
]

/** The version that this sandboxerd works with. */
export const SCHEMA_VERSION = MIGRATIONS.length
