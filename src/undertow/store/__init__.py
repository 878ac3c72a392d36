"""What lasts: run directories, the SQLite journal, Parquet tables and fp16 shards."""
