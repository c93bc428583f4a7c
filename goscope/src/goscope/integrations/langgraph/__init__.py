"""Checkpoints of LangGraph in the store of a scope. Needs ``goscope[langgraph]``.

    graph = builder.compile(checkpointer=GoscopeSaver(gs))

Two runs that continue one thread at the same time are refused: the second one to save gets
`CheckpointConflict`. A run from an older checkpoint that its config names forks the thread, as
LangGraph means it.
"""

from ._saver import GoscopeSaver

__all__ = ["GoscopeSaver"]
