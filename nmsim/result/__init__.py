"""What a simulation says: rows, totals, tidy frames, the parquet store and JSON."""
