"""A reload: the configuration is changed while it runs, all of it or nothing.

Latches stay, whatever is changed. What would leave a latched trip without ground is refused: nobody could sweep
it any more, and editing a file is no way round a reset.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from killswitch.domain.extras import kinds_of
from killswitch.domain.messages import ChangeOver, Noted, Reconfigured, Reloaded, ReloadFailed
from killswitch.domain.scope import EVERY
from killswitch.domain.watch.plan import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from killswitch.domain.alarms import Alarms
    from killswitch.domain.links import Links
    from killswitch.domain.parts import Parts
    from killswitch.domain.settings import FeedSpec, Rule, Settings, Site
    from killswitch.domain.trips import Trip

    Named: TypeAlias = FeedSpec | Rule | Site


class Reload:
    """Decides whether another configuration may stand, and lets it."""

    def __init__(self, parts: Parts, alarms: Alarms, links: Links) -> None:
        self._parts = parts
        self._alarms = alarms
        self._links = links

    def failed(self, event: ReloadFailed) -> None:
        self._refuse(event.mistakes, event.by, event.wall)

    def take(self, event: Reconfigured, now: float) -> None:
        """All of it, or nothing and every reason why not."""
        before = self._parts.settings
        refusals = (*event.refusals, *self._refusals(event.settings))
        if refusals:
            self._refuse(refusals, event.by, event.wall)
            return
        new = replace(event.settings, boot=before.boot)
        self._parts.standing.put(new)
        self._sites(before, new, now, event.wall)
        wanted = Wanted(
            feeds=new.feeds,
            rules=new.watched,
            replaced=event.replaced,
            omses=frozenset(site.name for site in before.sites) - frozenset(self._parts.standing.sites),
            bound=self._parts.rules_of_trips(),
        )
        findings = self._parts.watch.change(wanted, now)
        body = _changes(before, new, event)
        n = self._parts.outbox.record(body, event.wall)
        self._parts.outbox.event("reloaded", _in_words(body), event.wall, n=n)
        self._parts.outbox.put(ChangeOver(event.token))
        self._alarms.believe(findings, now, event.wall)
        for site in new.sites:
            if (before.feeds, before.rules) != (new.feeds, new.rules) or site not in before.sites or event.replaced:
                self._links.look_again(site.name, now)
        self._parts.status["announce"] = "yes"

    def _refuse(self, reasons: tuple[str, ...], by: str, wall: float) -> None:
        """Nothing changes, and people hear why."""
        text = f"the configuration was read again by {by} and can't be used, nothing is changed: {'; '.join(reasons)}"
        n = self._parts.outbox.record(Noted("reload_refused", text), wall)
        self._parts.outbox.event("reload_refused", text, wall, detail={"reasons": list(reasons)}, n=n)

    def _refusals(self, new: Settings) -> Iterable[str]:
        before, sites = self._parts.standing.sites, {site.name: site for site in new.sites}
        if new.daemon != self._parts.settings.daemon:
            yield "[daemon].name can't be changed while it runs: restart it"
        for name, site in sites.items():
            if name in before and before[name].oms_id != site.oms_id:
                yield f"OMS {name}: another oms_id is another OMS: give it another name, or restart it"
        for trip in self._parts.trips.values():
            held = before.get(trip.scope.oms)
            why = None if held is None else _loses_ground(trip, held, sites.get(held.name))
            if why is not None:
                yield f"OMS {trip.scope.oms}: {why} while trip {trip.id} is latched: reset it first"

    def _sites(self, before: Settings, new: Settings, now: float, wall: float) -> None:
        """OMSs that came, went, or have other gateways or accounts."""
        there = {site.name: site for site in new.sites}
        gateways = self._parts.gateways
        for oms, gateway in gateways:
            if oms not in there or gateway not in there[oms].gateways:
                del gateways[oms, gateway]
        for site in new.sites:
            for gateway in site.gateways:
                if (site.name, gateway) not in gateways:
                    gateways[site.name, gateway] = (False, now, "not connected yet")
        for site in before.sites:
            if site.name not in there:
                self._links.forget(site.name, now, wall)
                continue
            self._parts.sweeper.extra.configured(site.name, kinds_of(site), now)
            if there[site.name].discover:
                # What a person's word had is still there until the OMS itself has told.
                self._parts.sweeper.gathering.met(site.name, site.accounts, now)
                continue
            joined = set(there[site.name].accounts) - set(site.accounts)
            self._parts.sweeper.gathering.joined(site.name, tuple(sorted(joined)), now)


def _loses_ground(trip: Trip, held: Site, site: Site | None) -> str | None:
    """What can't be done to the OMS of a latched trip."""
    if site is None:
        return "it can't be removed or renamed"
    if trip.scope.whole and held.whole_oms and not site.whole_oms:
        return "whole_oms can't be taken from it"
    removed = set() if site.discover else set(held.accounts) - set(site.accounts)
    gone = sorted(account for account in removed if trip.scope.account in (EVERY, account))
    if gone:  # its lists may be denied to us then, and nothing of it is told any more between them
        return f"account {', '.join(map(str, gone))} can't be taken from it"
    return None


def _changes(before: Settings, new: Settings, event: Reconfigured) -> Reloaded:
    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    kinds: tuple[tuple[str, tuple[Named, ...], tuple[Named, ...]], ...] = (
        ("oms", before.sites, new.sites),
        ("feed", before.feeds, new.feeds),
        ("rule", before.rules, new.rules),
    )
    for kind, old, now_there in kinds:
        was, now_is = {one.name: one for one in old}, {one.name: one for one in now_there}
        added += [f'{kind} "{name}"' for name in now_is if name not in was]
        removed += [f'{kind} "{name}"' for name in was if name not in now_is]
        changed += [f'{kind} "{name}"' for name in now_is if name in was and was[name] != now_is[name]]
    changed += [f'feed "{name}"' for name in sorted(event.replaced)]
    changed += event.changed
    return Reloaded(
        daemon=new.daemon,
        before=before.fingerprint,
        config=new.fingerprint,
        by=event.by,
        added=tuple(added),
        removed=tuple(removed),
        changed=tuple(dict.fromkeys(changed)),
    )


def _in_words(body: Reloaded) -> str:
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (("added", body.added), ("removed", body.removed), ("changed", body.changed))
        if names
    ]
    return f"the configuration was read again by {body.by}: {'; '.join(parts) or 'nothing in it is new'}"
