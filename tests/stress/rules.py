"""The contract, as rules that a history keeps or breaks.

`check` is a pure function of a history: what it can find is shown by test_rules.py, which feeds
it histories that were made up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from .history import Action, Grant, History
from .record import NS_PER_MS
from .witness import WRITES

SLACK_NS: Final = 50 * NS_PER_MS
"""Cache ttls are wall clock, the logs are not: what the two may drift apart in a run."""

CANCELLED: Final = ("hold", "own", "execute", "down")
"""Bodies that are cancelled when their lease is lost."""

GUARDED: Final = ("checkpoint.save", "checkpoint.delete_all", "idempotency.set")
"""Writes that are always made under a lease."""

BODIES: Final = (*CANCELLED, "compute")


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that was broken, by what happened to ``key`` between ``begin`` and ``end``."""

    rule: str
    key: str
    begin: int
    end: int
    what: str


Rule = Callable[[History], Iterator[Violation]]


def check(history: History) -> list[Violation]:
    """All violations of all rules."""
    return [violation for rule in RULES for violation in rule(history)]


# --- leases -------------------------------------------------------------------------------------


def one_holder(history: History) -> Iterator[Violation]:
    """A lease is granted only when the grant before it has ended."""
    for key, grants in history.grants.items():
        holder = grants[0]
        for new in grants[1:]:
            if new.granted < holder.until:
                what = f"token {new.token} was granted while {holder.who} held {holder.token}"
                yield Violation("one holder", key, holder.asked, new.granted, what)
            holder = max(holder, new, key=lambda grant: grant.until)


def tokens_grow(history: History) -> Iterator[Violation]:
    """A grant's token is greater than that of every earlier grant, of any key."""
    granted = [action for action in history.all("grant") if action.done and action.result]
    answers = sorted((action.end or 0, action.result) for action in granted)
    seen, highest = 0, 0
    for action in granted:
        while seen < len(answers) and answers[seen][0] < action.begin:
            highest = max(highest, answers[seen][1])
            seen += 1
        if action.result <= highest:
            what = f"token {action.result} was granted after token {highest}"
            yield Violation("tokens grow", action.key, action.begin, action.end or 0, what)
    for (_, token), (t, again) in pairwise(sorted(answers, key=lambda answer: answer[1])):
        if token == again:
            yield Violation("tokens grow", "", t, t, f"token {token} was granted twice")


def no_takeover_of_the_living(history: History) -> Iterator[Violation]:
    """A lease that is renewed ends before its release only if something kept it from renewal."""
    for key, grants in history.grants.items():
        if key.startswith("lock:brief:"):
            continue  # nobody renews these
        for old, new in pairwise(grants):
            if not _has_cause(history, old, new):
                what = f"{old.who} lost token {old.token} to {new.who} without a cause"
                yield Violation("no takeover of the living", key, old.asked, new.granted, what)


def _has_cause(history: History, old: Grant, new: Grant) -> bool:
    for end in (old.released, old.renewed_in_vain, history.deaths.get(old.who)):
        if end is not None and end < new.granted:
            return True
    slow = old.granted - old.asked > old.ttl // 3
    return slow or history.was_held_up(old.who, old.asked, new.granted)


def no_revival(history: History) -> Iterator[Violation]:
    """A lease that ran out is not renewed, even if nobody took it."""
    ends = {
        (grant.key, grant.token): grant.granted + grant.ttl
        for grants in history.grants.values()
        for grant in grants
    }
    for action in history.all("renew"):
        lease = action.key, action.token or 0
        if action.result is not True or action.done is None or lease not in ends:
            continue
        if action.begin > ends[lease]:
            what = f"token {action.token} was renewed after its end"
            yield Violation("no revival", action.key, ends[lease], action.done, what)
        ends[lease] = max(ends[lease], action.done + action.value * NS_PER_MS)


def no_unguarded_write(history: History) -> Iterator[Violation]:
    """What a lease guards is written under its fence."""
    for write in history.all(*WRITES):
        guarded = write.what in GUARDED or write.key.startswith(("page:", "counted:", "down"))
        if guarded and not write.fence and write.possible:
            what = f"{write.what} of {write.who} has no fence"
            yield Violation("no unguarded write", write.key, write.begin, write.begin, what)


def no_stale_write(history: History) -> Iterator[Violation]:
    """A write under a fence is refused if its lease was taken before the write began."""
    for write in history.guarded:
        later = _grants_above(history, write)
        taken = [grant for grant in later if grant.granted < write.begin]
        if write.done is not None and taken:
            what = f"{write.what} under token {write.token} after the grant of {taken[0].token}"
            yield Violation("no stale write", write.fence, taken[0].asked, write.done, what)


def no_refusal_without_cause(history: History) -> Iterator[Violation]:
    """A write under a fence is refused only if its lease was released or taken."""
    unanswered = defaultdict[str, list[Action]](list)
    for action in history.all("grant"):
        if action.end is None:
            unanswered[action.key].append(action)
    for write in history.guarded:
        if write.error != "LeaseLost" or write.end is None:
            continue
        ends = [grant.asked for grant in _grants_above(history, write)]
        ends += [action.begin for action in unanswered[write.fence]]
        ends += [
            grant.released
            for grant in history.grants.get(write.fence, ())
            if grant.token == write.token and grant.released is not None
        ]
        if not any(end < write.end for end in ends):
            what = f"{write.what} under token {write.token}, which nobody took, was refused"
            yield Violation("no refusal without cause", write.fence, write.begin, write.end, what)


def _grants_above(history: History, write: Action) -> list[Grant]:
    grants = history.grants.get(write.fence, [])
    return grants[bisect_right(grants, write.token or 0, key=lambda grant: grant.token) :]


# --- bodies -------------------------------------------------------------------------------------


def no_body_without_lease(history: History) -> Iterator[Violation]:
    """What must happen once begins under a lease that was granted and not released."""
    for body in history.all(*BODIES):
        grant = history.grant_of(body)
        if grant is None or (grant.released is not None and grant.released < body.begin):
            what = f"{body.what} of {body.who} began without a lease"
            yield Violation("no body without a lease", body.key, body.begin, body.begin, what)


def one_step_at_most(history: History) -> Iterator[Violation]:
    """A body whose lease was taken does at most the one step that was already due."""
    for key, bodies in history.by_key(*CANCELLED).items():
        owned = [(grant.token, body) for body in bodies if (grant := history.grant_of(body))]
        owned.sort(key=lambda pair: (pair[0], pair[1].begin))
        begins = [body.begin for _, body in owned]
        for place in range(len(owned) - 2, -1, -1):
            begins[place] = min(begins[place], begins[place + 1])
        for (_, body), begin in zip(owned, begins[1:], strict=False):
            late = [step for step in body.steps if step > begin]
            if len(late) > 1:
                what = f"{body.what} of {body.who} did {len(late)} steps after the next one began"
                yield Violation("one step at most", key, begin, late[-1], what)


# --- counts -------------------------------------------------------------------------------------


def no_lost_count(history: History) -> Iterator[Violation]:
    """A total counts all that was acknowledged before it was asked for, and nothing else."""
    adding = history.by_key("cache.increment")
    adding["counts"] = history.by_key("circuit_breaker.record_failure")["counts"]
    totals = history.by_key("total")
    for key, actions in adding.items():
        done = sorted(action.done for action in actions if action.done is not None)
        begun = sorted(action.begin for action in actions if action.possible)
        for action in (*actions, *totals[key]):
            if action.done is None:
                continue
            own = action.what != "total"
            least = bisect_left(done, action.begin) + own
            most = bisect_left(begun, action.done)
            if not least <= (action.result or 0) <= most:
                what = f"{action.what} said {action.result}, not {least} to {most}"
                yield Violation("no lost count", key, action.begin, action.done, what)
        yield from _twice(key, actions)


def _twice(key: str, actions: list[Action]) -> Iterator[Violation]:
    seen: dict[int, Action] = {}
    for action in actions:
        if action.done is not None:
            other = seen.setdefault(action.result, action)
            if other is not action:
                what = f"{action.who} and {other.who} both counted {action.result}"
                yield Violation("no lost count", key, other.begin, action.done, what)


def no_lost_update(history: History) -> Iterator[Violation]:
    """What is read and written under a lock counts every write that was applied."""
    for key, writes in history.by_key("cache.set").items():
        if not key.startswith("counted:"):
            continue
        done = sorted(
            (write for write in writes if write.done is not None),
            key=lambda write: (write.token or 0, write.begin),
        )
        for old, new in pairwise(done):
            if new.value <= old.value:
                what = f"{new.who} wrote {new.value} over {old.value} of {old.who}"
                yield Violation("no lost update", key, old.begin, new.done or 0, what)


# --- what was acknowledged stays ----------------------------------------------------------------


def writes_stay(history: History) -> Iterator[Violation]:
    """Who reads a number that only grows gets the last one acknowledged, or a later one."""
    writes = history.by_key("write")
    for key, reads in history.by_key("read").items():
        done = [(write.done, write.value) for write in writes[key] if write.done is not None]
        for read in reads:
            if read.done is None:
                continue
            least = max((value for end, value in done if end < read.begin), default=0)
            most = max((w.value for w in writes[key] if w.begin < read.done), default=0)
            if not least <= (read.result or 0) <= most:
                what = f"read {read.result}, not {least} to {most}"
                yield Violation("writes stay", key, read.begin, read.done, what)


def entries_stay(history: History) -> Iterator[Violation]:
    """An entry is there from its `set` to its ttl or the deletion of its tag, and then gone."""
    stored = {action.key: action for action in history.all("store")}
    deletions = history.by_key("delete_by_tag")
    for look in history.all("look"):
        entry = stored.get(look.key)
        if entry is None or entry.done is None or look.done is None or entry.done > look.begin:
            continue
        expected = _presence(entry, look, deletions[str(entry.value["tag"])])
        if expected is not None and look.result != expected:
            what = f"it was {'absent' if expected else 'present'}, stored as {entry.value}"
            yield Violation("entries stay", look.key, entry.begin, look.done, what)


def _presence(entry: Action, look: Action, deletions: list[Action]) -> bool | None:
    """Whether the entry must be there (True) or gone (False); None if both are right."""
    stored, looked = entry.done or 0, look.done or 0
    ttl_ms = entry.value["ttl_ms"]
    if ttl_ms is not None and look.begin > stored + ttl_ms * NS_PER_MS + SLACK_NS:
        return False
    if any(stored < tag.begin and tag.done and tag.done < look.begin for tag in deletions):
        return False
    if ttl_ms is not None and looked > entry.begin + ttl_ms * NS_PER_MS - SLACK_NS:
        return None
    begun = [tag for tag in deletions if tag.begin < looked]
    deleted = any(tag.end is None or tag.end > entry.begin for tag in begun)
    return None if deleted else True


def tasks_resume(history: History) -> Iterator[Violation]:
    """The next owner of a task goes on at the last acknowledged checkpoint or a later one."""
    saves = history.by_key("checkpoint.save")
    discards = history.by_key("checkpoint.delete_all")
    ended = history.by_key("run")
    for task_id, looked, begin, data in _resumptions(history):
        run, number = data or (None, 0)
        for save in saves[task_id]:
            if save.done is None or save.done >= looked:
                continue
            if save.value[0] == run and save.value[1] > number:
                what = f"resumed at {data} after {save.value} was saved"
                yield Violation("tasks resume", task_id, save.begin, begin, what)
            if save.value[0] != run and not _discarded(save, discards[task_id], begin):
                what = f"resumed at {data}, and {save.value} is gone"
                yield Violation("tasks resume", task_id, save.begin, begin, what)
        for action in ended[task_id]:
            if action.done and action.done < looked and action.result == run:
                what = f"resumed at {data}, though that run was over"
                yield Violation("tasks resume", task_id, action.begin, begin, what)


def _resumptions(history: History) -> Iterator[tuple[str, int, int, tuple[str, int] | None]]:
    """Task, the time after which its state was read, the time it was known, the state."""
    for body in history.all("own"):
        grant = history.grant_of(body)
        if grant is not None:
            task_id = body.key.removeprefix("lease:task:")
            yield task_id, grant.granted, body.begin, body.value
    for action in history.all("latest"):
        if action.done is not None:
            yield action.key, action.begin, action.done, action.result


def _discarded(save: Action, discards: list[Action], before: int) -> bool:
    """Whether the checkpoint may have been deleted because its task had come to its end."""
    return any(save.begin < each.begin < before and each.possible for each in discards)


# --- once ---------------------------------------------------------------------------------------


def one_result(history: History) -> Iterator[Violation]:
    """Everyone gets the same result of an idempotent call, for ever after."""
    for key, replies in history.by_key("idempotency.run_detailed", "recall").items():
        done = [reply for reply in replies if reply.done is not None]
        for old, new in pairwise(sorted(done, key=lambda reply: reply.done or 0)):
            asked_before = new.what == "recall" and new.begin < (old.done or 0)
            if old.result is not None and new.result != old.result and not asked_before:
                what = f"{old.result} was the result, then {new.result}"
                yield Violation("one result", key, old.begin, new.done or 0, what)


def completed_once(history: History) -> Iterator[Violation]:
    """The result of an idempotent call is stored once."""
    for key, stores in history.by_key("idempotency.set").items():
        done = [store for store in stores if store.done is not None]
        for store in done[1:]:
            what = f"{store.who} completed what {done[0].who} had completed"
            yield Violation("completed once", key, done[0].begin, store.done or 0, what)


def nothing_is_done_again(history: History) -> Iterator[Violation]:
    """What was stored before the lease was granted is not computed under it."""
    stores = history.by_key("idempotency.set", "cache.set")
    for body in history.all("execute", "compute"):
        grant = history.grant_of(body)
        key = body.key.removeprefix("lease:cache:").removeprefix("lease:idempotency:")
        for store in stores[key]:
            if grant is None or store.done is None or store.done > grant.granted:
                continue
            ttl_ms = body.value
            if ttl_ms is None or body.begin < store.begin + ttl_ms * NS_PER_MS - SLACK_NS:
                what = f"{body.who} began to {body.what} what was stored before"
                yield Violation("nothing is done again", key, store.begin, body.begin, what)


def values_were_computed(history: History) -> Iterator[Violation]:
    """A value out of the cache is one that a computation returned."""
    computed = {body.name: body for body in history.all("compute")}
    for action in history.all("get_or_set"):
        if action.done is not None:
            body = computed.get(action.result)
            if body is None or body.done is None or body.done > action.done:
                what = f"{action.who} got {action.result!r}, which nobody computed"
                rule = "values were computed"
                yield Violation(rule, action.key, action.begin, action.done, what)


# --- the processes and the file -----------------------------------------------------------------


def nobody_fails(history: History) -> Iterator[Violation]:
    """A process ends well unless it is killed, and the file is whole."""
    for mark in (*history.marks["exit"], *history.marks["integrity"]):
        if mark.value not in (0, "ok"):
            yield Violation("nobody fails", mark.key, mark.t, mark.t, f"{mark.what}: {mark.value}")


RULES: Final[tuple[Rule, ...]] = (
    *(one_holder, tokens_grow, no_takeover_of_the_living, no_revival),
    *(no_stale_write, no_unguarded_write),
    *(no_refusal_without_cause, no_body_without_lease, one_step_at_most, no_lost_count),
    *(no_lost_update, writes_stay, entries_stay, tasks_resume, one_result),
    *(completed_once, nothing_is_done_again, values_were_computed, nobody_fails),
)
