"""Training data in: Parquet, JSONL and Hugging Face folders become one table of examples."""
