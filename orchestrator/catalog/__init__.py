"""The catalogue: what is known of assets, customers and keys, in PostgreSQL.

Owns asyncpg.
"""
