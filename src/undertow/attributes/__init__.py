"""Sentences that are true of queries and responses: extraction, pools and clusters."""
