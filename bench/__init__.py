"""Benchmarks of goscope, its peers, and a baseline of bare sqlite3 or asyncio.Lock."""
