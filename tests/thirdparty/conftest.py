"""The projects in this folder are installed elsewhere; `tests/packaging` installs and runs them."""

collect_ignore_glob = ["*/tests/*"]
