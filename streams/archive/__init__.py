"""The edge to Parquet: files are the commit log."""
