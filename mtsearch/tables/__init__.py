"""Tables of users and items in any usual format: found, opened with DuckDB, and their columns chosen and read."""
