"""Supervised fine-tuning on TRL."""
