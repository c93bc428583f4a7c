"""A graph that asks a person. Run it again with the answer: another process resumes it."""

import asyncio
import sys
from typing import TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

import goscope
from goscope.integrations.langgraph import GoscopeSaver


class Refund(TypedDict, total=False):
    cents: int
    approved: bool


async def check(state: Refund) -> Refund:
    print("checking the amount")
    return {"cents": 1250}


async def approve(state: Refund) -> Refund:
    return {"approved": interrupt(f"refund {state.get('cents')} cents?") == "yes"}


builder = StateGraph(Refund)
builder.add_node("check", check)
builder.add_node("approve", approve)
builder.add_edge(START, "check")
builder.add_edge("check", "approve")
builder.add_edge("approve", END)


async def main(answer: str | None) -> None:
    async with goscope.Scope("sqlite:///refunds.db") as gs:
        graph = builder.compile(checkpointer=GoscopeSaver(gs))
        asked = {} if answer is None else Command(resume=answer)
        result = await graph.ainvoke(asked, {"configurable": {"thread_id": "refund-1"}})
    if "__interrupt__" in result:
        print(result["__interrupt__"][0].value, "Run this again with yes or no.")
    else:
        print("approved" if result["approved"] else "refused")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
