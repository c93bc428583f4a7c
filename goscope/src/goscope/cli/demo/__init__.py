"""``goscope demo``: an import by several processes that loses one of them, and its ledger."""
