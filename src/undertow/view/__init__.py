"""The local viewer: every run of a folder, rendered on the server, on loopback only."""
