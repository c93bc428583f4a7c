"""The providers: the scripts of each ability, and how their answers become records."""
