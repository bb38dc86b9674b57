"""The bridge's database: SQLAlchemy Core; SQLite in WAL mode by default. The only importer of SQLAlchemy."""
