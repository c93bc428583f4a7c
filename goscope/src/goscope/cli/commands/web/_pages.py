"""The pages as HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec

from ....inspection import CollectionInfo, EntryInfo
from ..._changes import EntryName
from ..._output import Columns, cell
from ..._records import ListedCall, ListedTask, Status
from ..._units import size
from ..cache import COLLECTIONS
from ..cache import COLUMNS as ENTRIES
from ..circuits import COLUMNS as CIRCUITS
from ..idempotency import COLUMNS as CALLS
from ..status import LISTED, WAITERS, leases_of, summary
from ..tasks import eta
from ._actions import ACTIONS, cache_page_of
from ._listings import CacheListing

R = TypeVar("R")

REFRESH_S: Final = 3

_NAVIGATION: Final = (
    '<nav><a href="/">Status</a><a href="/cache">Cache</a><a href="/calls">Calls</a></nav>'
)


def status_page(status: Status, *, allow_changes: bool, done: str | None) -> str:
    """The screen; it loads itself again."""
    sections = (
        _section("Leases", status.leases, leases_of(status), allow_changes, _lease_actions),
        _section("Waiters", status.waiters, WAITERS, allow_changes, lambda _: ()),
        _tasks(status.tasks, allow_changes),
        _section("Circuits", status.circuits, CIRCUITS, allow_changes, _circuit_actions),
    )
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(cell(value))}</dd></div>"
        for name, value in summary(status).items()
    )
    return _page(
        status.store,
        f"{_NAVIGATION}<h1>{escape(cell(status.store))}</h1>{_note(done)}<dl>{facts}</dl>"
        f"{''.join(sections)}{_mode(allow_changes, refreshed=True)}",
        refresh="/",
    )


def cache_page(listing: CacheListing, *, allow_changes: bool, done: str | None) -> str:
    """The first entries of the cache or of a collection, and the collections."""
    name = listing.collection
    title = "Cache" if name is None else f"Collection {name}"
    hidden = "" if name is None else f'<input type=hidden name=collection value="{escape(name)}">'
    links = [
        [
            (head, _linked(it, value(it)) if head == "NAME" else escape(cell(value(it))))
            for head, value in COLLECTIONS.items()
        ]
        for it in listing.collections
    ]

    def actions(entry: EntryInfo) -> Iterable[tuple[str, Any]]:
        return [("delete-entry", EntryName(name, entry.key))]

    return _page(
        title,
        f"{_NAVIGATION}<h1>{escape(title)}</h1>{_note(done)}"
        f"<form action=/cache>{hidden}<input name=pattern placeholder='user:*' aria-label=Pattern "
        f'value="{escape(listing.pattern or "")}"> <button>List</button></form>'
        f"{_section('Entries', listing.entries, ENTRIES, allow_changes, actions)}"
        f"{'' if listing.entries else '<p>There are no such entries.</p>'}"
        f"{_table('Collections', links, [[] for _ in links])}"
        f"{_mode(allow_changes, refreshed=False)}",
    )


def calls_page(calls: Sequence[ListedCall], *, allow_changes: bool, done: str | None) -> str:
    """The first idempotent calls, those in flight before the others; it loads itself again."""
    return _page(
        "Calls",
        f"{_NAVIGATION}<h1>Idempotent calls</h1>{_note(done)}"
        f"{_section('Calls', calls, CALLS, allow_changes, _call_actions)}"
        f"{'' if calls else '<p>There are none.</p>'}{_mode(allow_changes, refreshed=True)}",
        refresh="/calls",
    )


def confirm_page(name: str, shown: Any, form_token: str) -> str:
    """The question before a change, with the record as it was shown."""
    action = ACTIONS[name]
    return _page(
        action.label,
        f"<h1>{escape(action.label)}</h1><p>{escape(action.question(shown))}</p>"
        f'<form method=post action="/do/{name}">'
        f'<input type=hidden name=token value="{escape(form_token)}">'
        f'<input type=hidden name=shown value="{escape(_encoded(shown))}">'
        f"<button>{escape(action.label)}</button></form> "
        f'<a href="{escape(action.page(shown))}">Back</a>',
    )


def message_page(title: str, text: str) -> str:
    """One sentence, and the way back."""
    return _page(title, f'<h1>{escape(title)}</h1><p>{escape(text)}</p><p><a href="/">Back</a></p>')


def _page(title: str, body: str, *, refresh: str | None = None) -> str:
    meta = f'<meta http-equiv=refresh content="{REFRESH_S};url={refresh}">' if refresh else ""
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"{meta}<title>{escape(cell(title))} - goscope</title>"
        '<link rel=stylesheet href="/style.css">'
        f"</head><body>{body}</body></html>"
    )


def _note(done: str | None) -> str:
    return f"<p class=done>{escape(ACTIONS[done].done)}</p>" if done in ACTIONS else ""


def _mode(allow_changes: bool, *, refreshed: bool) -> str:
    mode = "changes are allowed" if allow_changes else "read-only"
    return f"<p class=quiet>{mode}{f', refreshed every {REFRESH_S} s' if refreshed else ''}</p>"


def _linked(collection: CollectionInfo, text: object) -> str:
    return f'<a href="{escape(cache_page_of(collection.name))}">{escape(cell(text))}</a>'


def _section(
    name: str,
    records: Sequence[R],
    columns: Columns[R],
    allow_changes: bool,
    actions: Callable[[R], Iterable[tuple[str, Any]]],
) -> str:
    rows = [
        [(head, escape(cell(value(record)))) for head, value in columns.items()]
        for record in records
    ]
    buttons = [list(actions(record)) if allow_changes else [] for record in records]
    return _table(name, rows, buttons)


def _tasks(tasks: Sequence[ListedTask], allow_changes: bool) -> str:
    rows = [
        [
            ("ID", escape(cell(it.task.id))),
            ("PROGRESS", _bar(it.task.progress)),
            ("ETA", escape(cell(eta(it.task)))),
            ("STATE", escape(it.state)),
            ("CHECKPOINTS", f"{it.task.checkpoints}, {size(it.task.size_bytes)}"),
            ("PID", escape(cell(it.task.lease and it.task.lease.pid))),
        ]
        for it in tasks
    ]
    buttons = [
        [("delete", it.task)] if allow_changes and it.state == "half done" else [] for it in tasks
    ]
    return _table("Tasks", rows, buttons)


def _table(
    name: str,
    rows: Sequence[Sequence[tuple[str, str]]],
    buttons: Sequence[Sequence[tuple[str, Any]]],
) -> str:
    """A heading and a table, from cells that are HTML."""
    if not rows:
        return ""
    count = len(rows) if len(rows) < LISTED else f"the first {LISTED}"
    has_buttons = any(buttons)
    heads = [head for head, _ in rows[0]] + [""] * has_buttons
    head = "".join(f"<th>{escape(it)}</th>" for it in heads)
    body = ""
    for cells, actions in zip(rows, buttons, strict=True):
        text = "".join(f'<td data-head="{escape(head)}">{it}</td>' for head, it in cells)
        links = "".join(_button(action, record) for action, record in actions)
        body += f"<tr>{text}{f'<td data-head>{links}</td>' if has_buttons else ''}</tr>"
    return (
        f"<h2>{escape(name)} ({count})</h2><div class=table><table><thead><tr>{head}</tr>"
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _button(action: str, record: Any) -> str:
    query = urlencode({"shown": _encoded(record)})
    return f'<a href="/confirm/{action}?{escape(query)}">{escape(ACTIONS[action].label)}</a>'


def _bar(percent: float | None) -> str:
    if percent is None:
        return "-"
    return f'<progress max=100 value="{percent:.0f}"></progress> {percent:.0f}%'


def _encoded(record: Any) -> str:
    return msgspec.json.encode(record).decode()


def _lease_actions(lease: Any) -> Iterable[tuple[str, Any]]:
    return [("release", lease)]


def _call_actions(call: ListedCall) -> Iterable[tuple[str, Any]]:
    if call.lease is not None:
        return [("release", call.lease)]
    return [("forget", EntryName(None, call.key))]


def _circuit_actions(circuit: Any) -> Iterable[tuple[str, Any]]:
    return [(name, circuit) for name in ("open", "close", "reset")]
