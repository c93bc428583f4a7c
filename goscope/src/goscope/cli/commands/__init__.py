"""The subcommands, one module or package each: ``goscope demo`` is ``demo``.

A new one defines what `goscope.cli._command.Command` lists, and ``goscope/cli/_main.py`` names it.
"""
