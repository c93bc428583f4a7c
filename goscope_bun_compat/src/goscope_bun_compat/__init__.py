"""The backend "sqlite-bun": SQLite on the event loop, in the files of go-go-scope under Bun.

It is not part of this version yet: the module holds its name and registers nothing.
"""
