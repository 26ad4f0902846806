"""The shop's migrations with a data migration on top; test_migrations.py puts them in place with MIGRATION_MODULES."""
