"""What the PostgreSQL store is made of; `taskweave.stores.postgres` is its face."""
