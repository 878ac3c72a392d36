"""The offline index over a training mixture: build, open, scan, query."""
