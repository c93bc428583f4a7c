"""The contract of goscope as rules for a history.

`check` is a pure function of a history. test_rules.py verifies each rule with synthetic
histories.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from .event_log import NS_PER_MS
from .history import Action, Grant, History
from .recorder import WRITES

SLACK_NS: Final = 50 * NS_PER_MS
"""The drift allowed between the wall clock of cache ttls and the clock of the logs in one run."""

CANCELLED: Final = ("hold", "task_body", "execute", "down")
"""The bodies that goscope cancels when their lease is lost."""

GUARDED: Final = ("checkpoint.save", "checkpoint.delete_all", "idempotency.set")
"""The writes that always need a fence."""

BODIES: Final = (*CANCELLED, "compute")


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule, with its evidence on ``key`` between ``begin`` and ``end``."""

    rule: str
    key: str
    begin: int
    end: int
    text: str


Rule = Callable[[History], Iterator[Violation]]


def check(history: History) -> list[Violation]:
    """The violations of all rules."""
    return [violation for rule in RULES for violation in rule(history)]


# --- leases -------------------------------------------------------------------------------------


def one_holder(history: History) -> Iterator[Violation]:
    """A lease is granted only after the previous grant has ended."""
    for key, grants in history.grants.items():
        holder = grants[0]
        for new in grants[1:]:
            if new.granted < holder.until:
                text = f"token {new.token} was granted while {holder.process} held {holder.token}"
                yield Violation("one holder", key, holder.asked, new.granted, text)
            holder = max(holder, new, key=lambda grant: grant.until)


def tokens_increase(history: History) -> Iterator[Violation]:
    """The token of a grant is greater than the tokens of all earlier grants of any key."""
    granted = [action for action in history.all("grant") if action.done and action.result]
    answers = sorted((action.end or 0, action.result) for action in granted)
    seen, highest = 0, 0
    for action in granted:
        while seen < len(answers) and answers[seen][0] < action.begin:
            highest = max(highest, answers[seen][1])
            seen += 1
        if action.result <= highest:
            text = f"token {action.result} was granted after token {highest}"
            yield Violation("tokens increase", action.key, action.begin, action.end or 0, text)
    for (_, token), (t, again) in pairwise(sorted(answers, key=lambda answer: answer[1])):
        if token == again:
            yield Violation("tokens increase", "", t, t, f"token {token} was granted twice")


def no_takeover_of_a_live_lease(history: History) -> Iterator[Violation]:
    """A lease with renewals is lost only if its process died, stalled or could not renew it."""
    for key, grants in history.grants.items():
        if key.startswith("lock:short:"):
            continue  # these leases are not renewed
        for old, new in pairwise(grants):
            if not _has_cause(history, old, new):
                text = f"{old.process} lost token {old.token} to {new.process} while it was running"
                yield Violation("no takeover of a live lease", key, old.asked, new.granted, text)


def _has_cause(history: History, old: Grant, new: Grant) -> bool:
    for end in (old.released, old.refused_renewal, history.deaths.get(old.process)):
        if end is not None and end < new.granted:
            return True
    slow = old.granted - old.asked > old.ttl // 3
    return slow or history.was_delayed(old.process, old.asked, new.granted)


def no_extension_after_expiry(history: History) -> Iterator[Violation]:
    """An expired lease cannot be extended, even if no other process holds it.

    It can be renewed then; that no other process held it in the meantime is the rule "one holder".
    """
    ends = {
        (grant.key, grant.token): grant.granted + grant.ttl
        for grants in history.grants.values()
        for grant in grants
    }
    for action in history.all("extend", "renew"):
        lease = action.key, action.token or 0
        if action.result is not True or action.done is None or lease not in ends:
            continue
        if action.kind == "extend" and action.begin > ends[lease]:
            text = f"token {action.token} was extended after its expiry"
            yield Violation("no extension after expiry", action.key, ends[lease], action.done, text)
        ends[lease] = max(ends[lease], action.done + action.value * NS_PER_MS)


def no_unguarded_write(history: History) -> Iterator[Violation]:
    """A write that needs a lease has a fence."""
    for write in history.all(*WRITES):
        guarded = write.kind in GUARDED or write.key.startswith(("page:", "count:", "down"))
        if guarded and not write.fence and write.possible:
            text = f"{write.kind} of {write.process} has no fence"
            yield Violation("no unguarded write", write.key, write.begin, write.begin, text)


def no_stale_write(history: History) -> Iterator[Violation]:
    """A write is refused if its lease was granted to another holder before the write began."""
    for write in history.guarded:
        later = _grants_above(history, write)
        taken = [grant for grant in later if grant.granted < write.begin]
        if write.done is not None and taken:
            text = f"{write.kind} under token {write.token} after the grant of {taken[0].token}"
            yield Violation("no stale write", write.fence, taken[0].asked, write.done, text)


def no_refusal_without_cause(history: History) -> Iterator[Violation]:
    """A write is refused only if its lease was released or granted to another holder."""
    unacknowledged = defaultdict[str, list[Action]](list)
    for action in history.all("grant"):
        if action.end is None:
            unacknowledged[action.key].append(action)
    for write in history.guarded:
        if write.error != "LeaseLost" or write.end is None:
            continue
        ends = [grant.asked for grant in _grants_above(history, write)]
        ends += [action.begin for action in unacknowledged[write.fence]]
        ends += [
            grant.released
            for grant in history.grants.get(write.fence, ())
            if grant.token == write.token and grant.released is not None
        ]
        if not any(end < write.end for end in ends):
            text = f"{write.kind} refused, though token {write.token} was not released or replaced"
            yield Violation("no refusal without cause", write.fence, write.begin, write.end, text)


def _grants_above(history: History, write: Action) -> list[Grant]:
    grants = history.grants.get(write.fence, [])
    return grants[bisect_right(grants, write.token or 0, key=lambda grant: grant.token) :]


# --- bodies -------------------------------------------------------------------------------------


def no_body_without_lease(history: History) -> Iterator[Violation]:
    """A body that needs a lease begins after its grant and before its release."""
    for body in history.all(*BODIES):
        grant = history.grant_of(body)
        if grant is None or (grant.released is not None and grant.released < body.begin):
            text = f"{body.kind} of {body.process} began without a lease"
            yield Violation("no body without a lease", body.key, body.begin, body.begin, text)


def one_late_step_at_most(history: History) -> Iterator[Violation]:
    """A body that lost its lease does at most one step after the next body began."""
    for key, bodies in history.by_key(*CANCELLED).items():
        owned = [(grant.token, body) for body in bodies if (grant := history.grant_of(body))]
        owned.sort(key=lambda pair: (pair[0], pair[1].begin))
        begins = [body.begin for _, body in owned]
        for place in range(len(owned) - 2, -1, -1):
            begins[place] = min(begins[place], begins[place + 1])
        for (_, body), begin in zip(owned, begins[1:], strict=False):
            late = [step for step in body.steps if step > begin]
            if len(late) > 1:
                text = (
                    f"{body.kind} of {body.process} did {len(late)} steps after the next body began"
                )
                yield Violation("one late step at most", key, begin, late[-1], text)


# --- counts -------------------------------------------------------------------------------------


def no_lost_count(history: History) -> Iterator[Violation]:
    """A total includes every increment acknowledged before, and no increment that begins later."""
    adding = history.by_key("cache.increment")
    adding["counts"] = history.by_key("circuit_breaker.record_failure")["counts"]
    totals = history.by_key("total")
    for key, actions in adding.items():
        done = sorted(action.done for action in actions if action.done is not None)
        begun = sorted(action.begin for action in actions if action.possible)
        for action in (*actions, *totals[key]):
            if action.done is None:
                continue
            own = action.kind != "total"
            lowest = bisect_left(done, action.begin) + own
            highest = bisect_left(begun, action.done)
            if not lowest <= (action.result or 0) <= highest:
                text = f"{action.kind} returned {action.result}, expected {lowest} to {highest}"
                yield Violation("no lost count", key, action.begin, action.done, text)
        yield from _duplicate_counts(key, actions)


def _duplicate_counts(key: str, actions: list[Action]) -> Iterator[Violation]:
    seen: dict[int, Action] = {}
    for action in actions:
        if action.done is not None:
            other = seen.setdefault(action.result, action)
            if other is not action:
                text = f"{action.process} and {other.process} both got {action.result}"
                yield Violation("no lost count", key, other.begin, action.done, text)


def no_lost_update(history: History) -> Iterator[Violation]:
    """A counter that is read and written under a lock increases with every applied write."""
    for key, writes in history.by_key("cache.set").items():
        if not key.startswith("count:"):
            continue
        done = sorted(
            (write for write in writes if write.done is not None),
            key=lambda write: (write.token or 0, write.begin),
        )
        for old, new in pairwise(done):
            if new.value <= old.value:
                text = f"{new.process} wrote {new.value} over {old.value} of {old.process}"
                yield Violation("no lost update", key, old.begin, new.done or 0, text)


# --- acknowledged writes ------------------------------------------------------------------------


def no_lost_write(history: History) -> Iterator[Violation]:
    """A read of an increasing number returns the last acknowledged value or a later one."""
    writes = history.by_key("write")
    for key, reads in history.by_key("read").items():
        done = [(write.done, write.value) for write in writes[key] if write.done is not None]
        for read in reads:
            if read.done is None:
                continue
            lowest = max((value for end, value in done if end < read.begin), default=0)
            highest = max((w.value for w in writes[key] if w.begin < read.done), default=0)
            if not lowest <= (read.result or 0) <= highest:
                text = f"read {read.result}, expected {lowest} to {highest}"
                yield Violation("no lost write", key, read.begin, read.done, text)


def entry_lifetime(history: History) -> Iterator[Violation]:
    """An entry exists from its `set` until its ttl or the deletion of its tag, and no longer."""
    stored = {action.key: action for action in history.all("store")}
    deletions = history.by_key("delete_by_tag")
    for query in history.all("has"):
        entry = stored.get(query.key)
        if entry is None or entry.done is None or query.done is None or entry.done > query.begin:
            continue
        expected = _presence(entry, query, deletions[str(entry.value["tag"])])
        if expected is not None and query.result != expected:
            text = f"it was {'absent' if expected else 'present'}, stored as {entry.value}"
            yield Violation("entry lifetime", query.key, entry.begin, query.done, text)


def _presence(entry: Action, query: Action, deletions: list[Action]) -> bool | None:
    """Whether the entry must exist (True) or must not (False); None if both are correct."""
    stored, answered = entry.done or 0, query.done or 0
    ttl_ms = entry.value["ttl_ms"]
    if ttl_ms is not None and query.begin > stored + ttl_ms * NS_PER_MS + SLACK_NS:
        return False
    if any(stored < tag.begin and tag.done and tag.done < query.begin for tag in deletions):
        return False
    if ttl_ms is not None and answered > entry.begin + ttl_ms * NS_PER_MS - SLACK_NS:
        return None
    begun = [tag for tag in deletions if tag.begin < answered]
    deleted = any(tag.end is None or tag.end > entry.begin for tag in begun)
    return None if deleted else True


def tasks_resume(history: History) -> Iterator[Violation]:
    """The next owner of a task resumes at the last acknowledged checkpoint or a later one."""
    saves = history.by_key("checkpoint.save")
    discards = history.by_key("checkpoint.delete_all")
    ended = history.by_key("run")
    for task_id, read_after, begin, data in _resumptions(history):
        run, number = data or (None, 0)
        for save in saves[task_id]:
            if save.done is None or save.done >= read_after:
                continue
            if save.value[0] == run and save.value[1] > number:
                text = f"resumed at {data} after {save.value} was saved"
                yield Violation("tasks resume", task_id, save.begin, begin, text)
            if save.value[0] != run and not _discarded(save, discards[task_id], begin):
                text = f"resumed at {data}, but {save.value} is lost"
                yield Violation("tasks resume", task_id, save.begin, begin, text)
        for action in ended[task_id]:
            if action.done and action.done < read_after and action.result == run:
                text = f"resumed at {data}, although that run had completed"
                yield Violation("tasks resume", task_id, action.begin, begin, text)


def _resumptions(history: History) -> Iterator[tuple[str, int, int, tuple[str, int] | None]]:
    """For each resumption: the task, the interval in which its state was read, and the state."""
    for body in history.all("task_body"):
        grant = history.grant_of(body)
        if grant is not None:
            task_id = body.key.removeprefix("lease:task:")
            yield task_id, grant.granted, body.begin, body.value
    for action in history.all("load_latest"):
        if action.done is not None:
            yield action.key, action.begin, action.done, action.result


def _discarded(save: Action, discards: list[Action], before: int) -> bool:
    """Whether a completed run of the task may have deleted the checkpoint."""
    return any(save.begin < each.begin < before and each.possible for each in discards)


# --- results ------------------------------------------------------------------------------------


def one_result(history: History) -> Iterator[Violation]:
    """Every caller of an idempotent call gets the same result."""
    for key, replies in history.by_key("idempotency.run_detailed", "result").items():
        done = [reply for reply in replies if reply.done is not None]
        for old, new in pairwise(sorted(done, key=lambda reply: reply.done or 0)):
            asked_before = new.kind == "result" and new.begin < (old.done or 0)
            if old.result is not None and new.result != old.result and not asked_before:
                text = f"{old.result} was the result, then {new.result}"
                yield Violation("one result", key, old.begin, new.done or 0, text)


def one_completion(history: History) -> Iterator[Violation]:
    """The result of an idempotent call is stored only once."""
    for key, stores in history.by_key("idempotency.set").items():
        done = [store for store in stores if store.done is not None]
        for store in done[1:]:
            text = f"{store.process} stored a result after {done[0].process}"
            yield Violation("one completion", key, done[0].begin, store.done or 0, text)


def no_repeated_work(history: History) -> Iterator[Violation]:
    """A body does not run if its result was stored before the grant of its lease."""
    stores = history.by_key("idempotency.set", "cache.set")
    for body in history.all("execute", "compute"):
        grant = history.grant_of(body)
        key = body.key.removeprefix("lease:cache:").removeprefix("lease:idempotency:")
        for store in stores[key]:
            if grant is None or store.done is None or store.done > grant.granted:
                continue
            ttl_ms = body.value
            if ttl_ms is None or body.begin < store.begin + ttl_ms * NS_PER_MS - SLACK_NS:
                text = f"{body.process} began to {body.kind} although the result was stored"
                yield Violation("no repeated work", key, store.begin, body.begin, text)


def values_are_computed(history: History) -> Iterator[Violation]:
    """A value from the cache was returned by a computation."""
    computed = {body.name: body for body in history.all("compute")}
    for action in history.all("get_or_set"):
        if action.done is not None:
            body = computed.get(action.result)
            if body is None or body.done is None or body.done > action.done:
                text = f"{action.process} got {action.result!r}, which no process computed"
                rule = "values are computed"
                yield Violation(rule, action.key, action.begin, action.done, text)


# --- the processes and the file -----------------------------------------------------------------


def no_process_fails(history: History) -> Iterator[Violation]:
    """A process exits without an error unless it is killed, and the file passes integrity_check."""
    for mark in (*history.marks["exit"], *history.marks["integrity"]):
        if mark.value not in (0, "ok"):
            text = f"{mark.kind}: {mark.value}"
            yield Violation("no process fails", mark.key, mark.t, mark.t, text)


RULES: Final[tuple[Rule, ...]] = (
    *(one_holder, tokens_increase, no_takeover_of_a_live_lease, no_extension_after_expiry),
    *(no_unguarded_write, no_stale_write, no_refusal_without_cause),
    *(no_body_without_lease, one_late_step_at_most),
    *(no_lost_count, no_lost_update, no_lost_write, entry_lifetime, tasks_resume),
    *(one_result, one_completion, no_repeated_work, values_are_computed, no_process_fails),
)
