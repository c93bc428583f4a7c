"""Benchmarks: goscope beside its peers and beside the least that SQLite needs for the same work."""
