"""The table of planted bugs: what must hold, the text that breaks it, and who finds out.

A text stands in its file exactly once, else the mutant no longer applies and its test fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Edit: TypeAlias = tuple[str, str, str]
"""File under killswitch/, what stands there, and what stands there instead."""


@dataclass(frozen=True)
class Seeds:
    """The seeded simulation: one of the first so many seeds breaks, and the judge says this."""

    said: str
    most: int = 400


@dataclass(frozen=True)
class Exploring:
    """The explorer, by itself. `latched`: it begins where both trips are confirmed."""

    said: str
    faults: int = 1
    orders: int = 0
    resets: int = 0
    latched: bool = False
    gateways: int = 1
    age: str = "v2"
    sample: int = 100


@dataclass(frozen=True)
class Tests:
    """Tests of this house, by pytest's names for them."""

    names: str


Finder: TypeAlias = Seeds | Exploring | Tests


@dataclass(frozen=True)
class Mutant:
    """One planted bug. `finders`: each of them finds it by itself."""

    name: str
    holds: str  # what must hold
    edits: tuple[Edit, ...]
    finders: tuple[Finder, ...]


SWEEP, SWEEPER, LANES = "domain/sweep.py", "domain/sweeper.py", "domain/lanes.py"
PROOF = "VERIFIED without list"
NO_PROOF = "VERIFIED"

MUTANTS = (
    Mutant(
        "any list as proof",
        "a list counts only if it was asked after the last cancel, on a session that carried it",
        (
            (
                SWEEP,
                "return listed.call >= self.mark and listed.asked_at >= self.not_before and listed.session in proving",
                "return True",
            ),
        ),
        (Seeds(PROOF), Exploring(PROOF)),
    ),
    Mutant(
        "proof kept across sessions",
        "what one session carried proves nothing on another",
        (
            (
                SWEEP,
                "any((session, scope) in self.carried for scope in covering(part))",
                "any(s == scope for scope in covering(part) for _, s in self.carried)",
            ),
            (
                SWEEPER,
                "frozenset((s, scope) for s, scope in trip.sweep.carried if s != session.number)",
                "trip.sweep.carried",
            ),
        ),
        (Seeds(PROOF), Exploring(PROOF), Exploring(PROOF, gateways=2)),
    ),
    Mutant(
        "lists of a session that carried nothing",
        "a session proves only what its own cancel went before",
        (
            (
                "domain/evidence.py",
                "(made_from, trip.sweep.proving(able, calls))",
                "(made_from, frozenset(able))",
            ),
        ),
        (Tests("tests/domain/test_hedges.py"),),
    ),
    Mutant(
        "a list that waits for the cancel that hangs",
        "a gateway that is silent delays a proof by the hedge and no more",
        (("domain/asking.py", "if call.is_awaited:", "if not call.overdue:"),),
        (Tests("tests/domain/test_hedges.py"),),
    ),
    Mutant(
        "0 for every",
        "a part that is every is no key at all: a 0 is everybody's to newer servers",
        (
            (
                "wire/alphapoint.py",
                "            body[key] = _id(key, part)\n",
                "            body[key] = _id(key, part)\n        else:\n            body[key] = 0\n",
            ),
        ),
        (Seeds("holds a 0"), Exploring("holds a 0"), Tests("tests/wire/test_alphapoint.py")),
    ),
    Mutant(
        "no guard",
        "a latched scope is listed for as long as it is latched",
        (
            (
                "domain/asking.py",
                "            ask_at = max(trip.sweep.not_before, trip.sweep.ask_at)\n",
                (
                    "            if trip.state is State.CONFIRMED:\n"
                    '                self._agenda.clear(("blind", trip.id))\n'
                    "                continue\n"
                    "            ask_at = max(trip.sweep.not_before, trip.sweep.ask_at)\n"
                ),
            ),
        ),
        (Seeds("not at rest"), Exploring("not at rest", orders=1, resets=1, latched=True, sample=1)),
    ),
    Mutant(
        "event taken for a reply",
        "an answer has its request's number and name, and no event answers anything",
        (
            (
                "wire/alphapoint.py",
                (
                    "            case FrameType.EVENT:\n                return EventFrame(frame)\n"
                    "            case FrameType.REPLY | FrameType.ERROR:\n"
                ),
                "            case FrameType.EVENT | FrameType.REPLY | FrameType.ERROR:\n",
            ),
        ),
        (Tests("tests/wire/test_alphapoint.py"),),
    ),
    Mutant(
        "event taken for the reply to a list",
        "that an order ended says nothing of the others: only a list that was asked for does",
        (
            (
                "domain/switch.py",
                "                self._parts.sweeper.order_ended(event.oms, event.order, now)\n",
                (
                    "                account = event.order.account\n"
                    "                for call in self._parts.book.lists_under_way(event.oms, account):\n"
                    "                    empty = OpenOrders(\n"
                    "                        wall=event.wall, call=call.number, session=call.session,\n"
                    "                        account=account, orders=(),\n"
                    "                    )\n"
                    "                    self._parts.sweeper.listed(empty, now)\n"
                    "                self._parts.sweeper.order_ended(event.oms, event.order, now)\n"
                ),
            ),
        ),
        (Seeds(NO_PROOF), Exploring(NO_PROOF)),
    ),
    Mutant(
        "another call's answer taken for ours",
        "an answer is its own call's and no other's",
        (
            (
                "domain/book.py",
                (
                    "        call = self.calls.get(number)\n        if call is None or call.session != session:\n"
                    "            return None\n        self.end(number)\n"
                ),
                (
                    "        call = self.calls.get(number) or next(iter(self.calls.values()), None)\n"
                    "        if call is None:\n            return None\n        self.end(call.number)\n"
                ),
            ),
        ),
        (Seeds(NO_PROOF), Exploring(NO_PROOF)),
    ),
    Mutant(
        "latch forgotten on restart",
        "a latch survives a restart",
        (("domain/switch.py", "            self._life.relatch(held, now)\n", "            pass\n"),),
        (Seeds("the records say"), Exploring("the records say")),
    ),
    Mutant(
        "PUBACK before the journal",
        "a command is acknowledged once it is on disk",
        (
            (
                "domain/desk.py",
                "        if n <= self._outbox.journalled_n:\n            self._acknowledge(token, via)\n",
                "        if n:\n            self._acknowledge(token, via)\n",
            ),
        ),
        (Seeds("before the journal had it"), Exploring("before the journal had it")),
    ),
    Mutant(
        "hedge on the same session",
        "a cancel that hangs goes out over another session",
        (
            (
                "domain/paths.py",
                "_best(s for s in live(book, session.oms) if s.number != session.number)",
                "_best(s for s in live(book, session.oms) if s.number == session.number)",
            ),
        ),
        (
            Seeds("on the same session"),
            Exploring("on the same session", gateways=2, sample=400),
            Tests("tests/domain/test_hedges.py"),
        ),
    ),
    Mutant(
        "no hedge",
        "a cancel that hangs goes out over another session, hedge_after_s after it left",
        (
            (
                "domain/paths.py",
                "_best(s for s in live(book, session.oms) if s.number != session.number)",
                "_best(s for s in live(book, session.oms) if False)",
            ),
        ),
        (Seeds("hangs on session"),),
    ),
    Mutant(
        "user id sent on v3",
        "no id leaves that the server doesn't honour",
        (
            (
                "domain/dialects.py",
                'Dialect.V3: frozenset({"account"}),',
                'Dialect.V3: frozenset({"account", "user"}),',
            ),
        ),
        (
            Seeds("by a v3 server"),
            Exploring("by a v3 server", age="v3"),
            Tests("tests/domain/test_dialects.py"),
        ),
    ),
    Mutant(
        "an unknown version is the richest",
        "a server that nobody can tell of is taken for the poorest",
        (("domain/dialects.py", "POOREST: Final = Dialect.V3", "POOREST: Final = Dialect.V2"),),
        (Seeds("server"), Tests("tests/domain/test_dialects.py")),
    ),
    Mutant(
        "the richest session plans for all",
        "behind all gateways is one OMS: the plan is the poorest session's",
        (("domain/dialects.py", "    return min(dialects, key", "    return max(dialects, key"),),
        (Tests("tests/domain/test_auto.py"),),
    ),
    Mutant(
        "marks that don't move",
        "a cancel that leaves makes every list asked before it void",
        ((SWEEP, "            mark=max(self.mark, next_call),\n            empties=0,\n", ""),),
        (Seeds(NO_PROOF), Exploring(NO_PROOF)),
    ),
    Mutant(
        "one round is enough",
        "as many empty rounds in a row as the policy asks for",
        ((SWEEPER, "proven = empties >= self._standing.confirm.empties", "proven = empties >= 1"),),
        (Seeds(PROOF), Exploring(PROOF)),
    ),
    Mutant(
        "rounds without a pause",
        "a round begins settle_ms after the one before it ended",
        ((SWEEPER, "            wait = self._standing.confirm.settle_s\n", "            wait = 0.0\n"),),
        (Seeds(PROOF),),
    ),
    Mutant(
        "deaf to new orders",
        "an order that an event showed counts against the proof",
        (
            (
                SWEEPER,
                "            if trip.scope.holds(order) is Holds.NO:\n",
                "            if trip.scope.holds(order) in Holds:\n",
            ),
        ),
        (Seeds("shown by an event, is open"), Exploring("shown by an event, is open", faults=0, orders=1)),
    ),
    Mutant(
        "rows that can't be read don't count",
        "a row that can't be read counts as in scope",
        (
            (
                SWEEP,
                "return len(self.sure) + len(self.maybe) + self.unreadable",
                "return len(self.sure) + len(self.maybe)",
            ),
        ),
        (Seeds(NO_PROOF),),
    ),
    Mutant(
        "nobody's order is ours",
        "an order that nobody can attribute is not cancelled by its id",
        ((SWEEP, "                maybe.append(order)\n", "                sure.append(order)\n"),),
        (Seeds("is in no latched scope"),),
    ),
    Mutant(
        "a refused cancel counts as carried",
        "a refused cancel is carried by no session",
        (("domain/refusals.py", "carried = sweep.carried - {(call.session, call.scope)}", "carried = sweep.carried"),),
        (Tests("tests/domain"),),
    ),
    Mutant(
        "a reset overtakes a cancel",
        "nothing of a trip acts after its reset, which waits for cancels that are unanswered",
        (
            (
                "domain/people.py",
                "        if not under_way:\n            return None\n",
                "        if under_way is not None:\n            return None\n",
            ),
        ),
        (Seeds("is reset while its cancel"),),
    ),
    Mutant(
        "a reset waits for nothing",
        "a trip is reset only once it is confirmed",
        (
            (
                "domain/people.py",
                "        if trip is None or refusal is not None:\n            proven",
                "        if trip is None:\n            proven",
            ),
        ),
        (Seeds("is reset while"),),
    ),
    Mutant(
        "stragglers by the whole account",
        "what falls back to another call never widens the scope",
        (
            (
                "domain/dialects.py",
                "    on_account = replace(scope, account=account)\n    tried",
                "    on_account = replace(scope, account=account, user=EVERY)\n    tried",
            ),
        ),
        (Seeds("is in no latched scope"),),
    ),
    Mutant(
        "accounts that turn up are nobody's",
        "an account that nobody named joins the scopes that hold every account",
        (
            (
                "domain/book.py",
                "        if new:\n            self._extra[oms] = extra.union(new)\n        return new\n",
                "        return ()\n",
            ),
        ),
        (Seeds("turned up and nobody listed all", most=1500),),
    ),
    Mutant(
        "the accounts that are known are all",
        "a scope without an account wants a whole list of accounts, asked for in its sweep, or a person's word",
        (
            (
                "domain/book.py",
                "        return tuple(sorted(known)), whole\n",
                "        return tuple(sorted(known)), True\n",
            ),
        ),
        (Seeds("no list of all accounts was asked for", most=1000),),
    ),
    Mutant(
        "a cancel waits for the budget",
        "the cancel of a press leaves in the pass of that press",
        (
            (
                LANES,
                "            self._cancel_all(session, scope, now)\n\n    def _cancel_all",
                (
                    "            if self._book.may_call(scope.oms, now, 0.99):\n"
                    "                self._cancel_all(session, scope, now)\n\n    def _cancel_all"
                ),
            ),
        ),
        (Seeds("no cancel left in the pass"),),
    ),
    Mutant(
        "a command counts twice",
        "a command's id is carried out once, across restarts",
        (
            (
                "domain/people.py",
                "        used = self._parts.desk.before(event.id)\n        trip, shadow",
                "        used = None\n        trip, shadow",
            ),
        ),
        (Seeds("twice"),),
    ),
    Mutant(
        "a cancel whose hedge was received waits on",
        "what waits to be written, and might be ignored in part by now, leaves no more",
        (
            (
                LANES,
                "            and call.order_id is None\n            and not can_say(over_http",
                "            and call.order_id is None and call.is_awaited\n            and not can_say(over_http",
            ),
        ),
        (Tests("tests/domain/test_between.py"),),
    ),
)
