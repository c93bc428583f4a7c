"""What is in this folder is installed somewhere else; `tests/packaging` does that and runs it."""

collect_ignore_glob = ["*/tests/*"]
