"""What `nmsim validate --out` writes: figures, tables in Markdown and a CSV, from the plain data that `--json` prints."""
