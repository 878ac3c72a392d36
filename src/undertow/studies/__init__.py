"""Experiments over finished runs; first of all the proof that a fix worked."""
