"""Accounts that the OMS is asked for: what is complete, what is not, and what comes of an account that turns up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from killswitch.domain.messages import (
    AccountsListed,
    AnnounceEvent,
    Answer,
    Answered,
    AnswerKind,
    ChangeOver,
    EverythingTripped,
    ListAccounts,
    ListOpenOrders,
    ListPositions,
    ListUserAccounts,
    LookRequested,
    Lost,
    Moved,
    Preview,
    Reconfigured,
    SessionUp,
    SubscribeAccount,
)
from killswitch.domain.scope import EVERY
from killswitch.domain.settings import FeedSpec, Settings
from tests.domain.bench import OK, SITE, Bench, fold_records, order, scope

SITE_OF = replace(SITE, accounts=(), discover=True)
FOUND = Settings(daemon="ks", boot="1", sites=(SITE_OF,))
NARROW = replace(FOUND, sites=(replace(SITE_OF, whole_oms=False),))
REFUSED = Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized")
ALL = scope()


class Census(Bench):
    """An exchange with accounts, of which user 37, whom it takes us for, has two. `says`: what it answers instead."""

    def __init__(self, settings: Settings = FOUND, restored=None, accounts=(14, 15, 900)) -> None:
        super().__init__(settings, restored)
        self.accounts = list(accounts)
        self.user_accounts = {37: (14, 15)}
        self.says: Answer | None = None
        self.short = 0  # so many rows of each page are there
        self.spoilt = 0
        self.silent: tuple[type, ...] = ()

    def connect(self, user: int | None = 37) -> None:
        self.session += 1
        self.tell(SessionUp(wall=self.wall, oms="prime", gateway="gw:1", session=self.session, user=user))

    def answer(self, action) -> None:
        at = {"wall": self.wall, "session": self.session}
        match action:
            case ListUserAccounts(call=call, user=user) if user != 37 and self.says is not None:
                self.tell(Answered(call=call, answer=self.says, **at))
            case _ if isinstance(action, self.silent):
                return
            case ListAccounts(call=call, start=start, limit=limit):
                if self.says is not None:
                    self.tell(Answered(call=call, answer=self.says, **at))
                    return
                page = self.accounts[start : start + (self.short or limit)]
                self.tell(AccountsListed(call=call, accounts=tuple(page), rows=len(page), unreadable=self.spoilt, **at))
            case SubscribeAccount(call=call):
                self.tell(Answered(call=call, answer=OK, **at))
            case _:
                super().answer(action)

    def calm(self, for_s: float = 0.0) -> None:
        """Everything that is due now is done, and what is due within `for_s`."""
        end = self.now + for_s
        while True:
            while self.step():
                pass
            due = self.switch.due()
            if due is None or due > end:
                break
            self.tick()
        self.now = end

    def oms(self):
        return self.switch.view(self.now).omses[0]

    def subscribed(self) -> list[int]:
        return [action.account for action in self.of(SubscribeAccount)]


def told(bench: Census, kind: str) -> list[str]:
    return [event.text for event in bench.of(AnnounceEvent) if event.kind == kind]


def test_accounts_are_found_at_the_sign_in_and_their_events_subscribed_to():
    bench = Census()
    bench.connect()
    bench.calm()
    assert [(action.start, action.limit) for action in bench.of(ListAccounts)] == [(0, 500), (3, 500)]
    assert [action.user for action in bench.of(ListUserAccounts)] == [37]
    assert bench.subscribed() == [14, 15, 900]
    assert (bench.oms().accounts, bench.oms().accounts_complete) == (3, True)


def test_every_account_is_proven_once_the_oms_has_listed_all_of_them_in_this_sweep():
    bench = Census()
    bench.orders = {1: order(1), 2: order(2, account=900, user=40)}
    bench.connect()
    bench.calm()
    asked_before = len(bench.of(ListAccounts))
    bench.trip(ALL)
    bench.settle()
    assert len(bench.of(ListAccounts)) == asked_before + 2
    assert bench.orders == {}
    assert bench.view().accounts_looked_at == (14, 15, 900)


def test_a_list_that_was_asked_for_before_the_sweep_proves_nothing():
    bench = Census()
    bench.connect()
    bench.calm()
    bench.says = REFUSED
    bench.trip(ALL)
    bench.calm(30.0)
    assert (bench.state(), bench.view().outcome) == ("escalated", "UNKNOWN")
    assert (
        "looked at 3 accounts, there may be more: the list of all accounts can't be had: Not Authorized"
        in (told(bench, "escalated")[0])
    )
    bench.says = None
    bench.settle(within_s=120.0)
    assert bench.view().outcome == "VERIFIED"


def test_each_sweep_asks_once_though_the_sign_in_was_refused_the_list():
    bench = Census()
    bench.says = REFUSED
    bench.connect()
    bench.calm(1.0)
    (asked,) = bench.of(ListAccounts)
    bench.trip(ALL)
    bench.calm(1.0)
    assert len(bench.of(ListAccounts)) == 2
    assert "looked at 2 accounts, there may be more" in told(bench, "escalated")[0]
    bench.says = None
    bench.trip(ALL, "t2")
    bench.settle()
    assert asked


def test_the_credentials_own_accounts_are_looked_at_and_are_not_all():
    bench = Census()
    bench.says = REFUSED
    bench.orders = {1: order(1), 2: order(2, account=900, user=40)}
    bench.connect()
    bench.trip(scope(EVERY, 40))
    bench.calm(30.0)
    assert bench.state() == "escalated"
    assert (bench.view().outcome, bench.view().accounts_looked_at) == ("UNKNOWN", (14, 15))
    assert not bench.oms().accounts_complete


def test_an_account_that_is_named_needs_no_list_of_accounts():
    bench = Census()
    bench.says = REFUSED
    bench.orders = {1: order(1)}
    bench.connect()
    bench.trip(scope(14))
    bench.settle()
    assert bench.orders == {}


def test_a_users_trip_without_a_list_of_his_accounts_wants_all_of_them():
    bench = Census()
    bench.connect()
    bench.trip(scope(EVERY, 40))
    for action in tuple(bench.waiting):
        if isinstance(action, ListUserAccounts) and action.user == 40:
            bench.waiting.remove(action)
            bench.tell(Answered(wall=bench.wall, call=action.call, session=action.session, answer=REFUSED))
    bench.settle()
    assert bench.view().accounts_looked_at == (14, 15, 900)


def test_a_user_is_proven_over_his_own_accounts():
    bench = Census()
    bench.says = REFUSED
    bench.connect()
    bench.calm()
    bench.trip(scope(EVERY, 37))
    bench.settle()
    assert bench.view().accounts_looked_at == (14, 15)


@pytest.mark.parametrize("page", [1, 2])
def test_a_page_that_is_cut_short_is_gone_on_from(page):
    bench = Census()
    bench.short = page
    bench.connect()
    bench.calm()
    bench.trip(ALL)
    bench.settle()
    assert bench.view().accounts_looked_at == (14, 15, 900)


def test_a_row_that_cant_be_read_is_an_account_that_nobody_knows():
    bench = Census()
    bench.spoilt = 1
    bench.connect()
    bench.trip(ALL)
    bench.calm(10.0)
    assert bench.view().outcome == "UNKNOWN"
    assert bench.view().accounts_looked_at == (14, 15, 900)
    assert any("can't be read" in text for text in told(bench, "escalated"))


def test_a_server_that_gives_the_same_page_for_ever_lists_nothing():
    bench = Census()

    def again(action):
        if isinstance(action, ListAccounts):
            rows = {"accounts": (14, 15), "rows": 2}
            bench.tell(AccountsListed(wall=bench.wall, call=action.call, session=action.session, **rows))
        else:
            Census.answer(bench, action)

    bench.answer = again
    bench.connect()
    bench.trip(ALL)
    bench.calm(10.0)
    assert bench.view().outcome == "UNKNOWN"
    assert len(bench.of(ListAccounts)) < 20


def test_a_list_without_any_account_is_no_list():
    bench = Census(accounts=())
    bench.user_accounts = {}
    bench.connect()
    bench.trip(ALL)
    bench.calm(10.0)
    assert (bench.oms().accounts, bench.oms().accounts_complete) == (0, False)
    assert (bench.state(), bench.view().outcome) == ("escalated", "UNKNOWN")


def test_a_restart_under_a_latched_trip_proves_nothing_before_the_accounts_are_known():
    before = Census()
    before.connect()
    before.calm()
    before.trip(ALL)
    before.settle()
    again = Census(restored=fold_records(before.records))
    again.orders = {2: order(2, account=900, user=40)}
    again.silent = (ListAccounts, ListUserAccounts)
    again.obeys = False
    again.connect()
    again.calm(60.0)
    assert (again.state(), again.view().outcome) == ("escalated", "UNKNOWN")
    again.silent, again.obeys = (), True
    again.settle(within_s=200.0)
    assert 900 in again.view().accounts_looked_at
    assert again.orders == {}


def test_an_account_that_turns_up_takes_confirmed_back_and_the_list_is_asked_for_anew():
    bench = Census()
    bench.connect()
    bench.trip(ALL)
    bench.settle()
    lists = len(bench.of(ListAccounts))
    bench.accounts.append(901)
    bench.working(order(7, account=901, user=40))
    assert bench.state() == "sweeping"
    bench.settle()
    assert len(bench.of(ListAccounts)) > lists
    assert 901 in bench.view().accounts_looked_at
    assert bench.orders == {}
    assert 901 in bench.subscribed()


def test_an_account_that_the_list_doesnt_have_keeps_it_from_being_called_all():
    bench = Census()
    bench.connect()
    bench.trip(ALL)
    bench.settle()
    bench.working(order(7, account=901, user=40))
    bench.calm(10.0)
    assert bench.view().outcome == "UNKNOWN"
    assert 7 not in bench.orders


def test_new_accounts_are_found_with_each_snapshot():
    feed = FeedSpec(name="positions", kind="oms", stale_after_s=30, oms="prime", snapshot_every_s=20.0)
    bench = Census(replace(FOUND, feeds=(feed,)))
    bench.connect()
    bench.calm(1.0)
    assert {action.account for action in bench.of(ListPositions)} == {14, 15, 900}
    bench.accounts.append(901)
    bench.forget_actions()
    bench.calm(25.0)
    assert bench.subscribed() == [901]
    assert 901 in {action.account for action in bench.of(ListPositions)}
    assert 901 in {action.account for action in bench.of(ListOpenOrders)}


def test_an_account_that_is_found_later_takes_confirmed_back():
    bench = Census()
    bench.connect()
    bench.trip(ALL)
    bench.settle()
    bench.accounts.append(901)
    bench.calm(61.0)
    assert any(moved.input == "blind" and moved.why == "account 901 turned up" for moved in bench.bodies(Moved))
    bench.settle()
    assert 901 in bench.view().accounts_looked_at


def test_a_new_session_hears_every_account_anew():
    bench = Census()
    bench.connect()
    bench.calm()
    bench.disconnect()
    bench.forget_actions()
    bench.connect()
    bench.calm()
    assert bench.subscribed() == [14, 15, 900]


def test_a_list_that_is_lost_with_its_session_is_asked_for_on_the_next():
    bench = Census()
    bench.silent = (ListAccounts,)
    bench.connect()
    bench.calm()
    (asked,) = bench.of(ListAccounts)
    bench.tell(Lost(wall=bench.wall, call=asked.call, session=asked.session, why="the session ended"))
    bench.disconnect()
    bench.silent = ()
    bench.connect()
    bench.calm()
    assert bench.oms().accounts_complete


def test_what_is_refused_is_asked_for_once_a_minute_and_what_fails_ever_less_often():
    for answer, most in ((REFUSED, 12), (Answer(AnswerKind.UNCLEAR, "other", 0, "Endpoint GetAccounts not found"), 20)):
        bench = Census()
        bench.says = answer
        bench.connect()
        bench.trip(ALL)
        bench.calm(600.0)
        assert 9 < len(bench.of(ListAccounts)) <= most


def test_the_list_of_accounts_stays_within_the_budget_of_calls():
    bench = Census(replace(FOUND, sites=(replace(SITE_OF, calls_per_minute=60),)), accounts=range(1, 200))
    bench.short = 1
    bench.connect()
    bench.calm(60.0)
    calls = len(bench.of(ListAccounts, ListUserAccounts, SubscribeAccount, ListOpenOrders))
    assert 20 < calls <= 60


def test_everything_is_each_account_that_was_found_and_those_that_are_found_next():
    bench = Census(NARROW)
    bench.tell(EverythingTripped(wall=bench.wall, by="SIGUSR1", reason="a test"))
    assert "no account is known yet" in told(bench, "escalated")[0]
    bench.orders = {1: order(1), 2: order(2, account=900, user=40)}
    bench.connect()
    bench.settle()
    bench.calm(1.0)
    assert sorted(trip.scope.account for trip in bench.trips()) == [14, 15, 900]
    assert bench.orders == {}
    bench.accounts.append(901)
    bench.calm(100.0)
    assert len(bench.trips()) == 3  # it was not there when everything was tripped


def test_a_preview_is_complete_once_the_oms_has_listed_its_accounts():
    bench = Census()
    bench.connect()
    bench.tell(LookRequested(wall=bench.wall, scope=ALL, token="one"))
    bench.calm()
    bench.tell(LookRequested(wall=bench.wall, scope=ALL, token="two"))
    bench.calm()
    first, second = bench.of(Preview)
    assert (first.complete, first.accounts_looked_at) == (False, ())
    assert (second.complete, second.accounts_looked_at) == (True, (14, 15, 900))


def test_events_that_are_refused_are_said_and_a_few_only():
    bench = Census(accounts=range(1, 40))

    def no(action):
        if isinstance(action, SubscribeAccount):
            bench.tell(Answered(wall=bench.wall, call=action.call, session=action.session, answer=REFUSED))
        else:
            Census.answer(bench, action)

    bench.answer = no
    bench.connect()
    bench.calm(10.0)
    assert told(bench, "no_events")[0] == "prime: no events of account 1: Not Authorized"
    assert len(told(bench, "no_events")) == 10


def test_an_oms_whose_accounts_are_somebodys_word_is_asked_for_none():
    bench = Census(replace(FOUND, sites=(SITE,)))
    bench.connect()
    bench.trip(ALL)
    bench.settle()
    assert bench.of(ListAccounts, SubscribeAccount) == []


def reload(bench: Census, site) -> bool:
    settings = replace(bench.switch._parts.settings, sites=(site,), fingerprint="new")
    actions = bench.tell(Reconfigured(wall=bench.wall, settings=settings, by="SIGHUP", token="t"))
    return any(isinstance(action, ChangeOver) for action in actions)


def test_a_word_that_is_taken_back_takes_what_was_proven_by_it_back_and_loses_no_account():
    bench = Census(replace(FOUND, sites=(SITE,)))
    bench.user_accounts = {}
    bench.connect()
    bench.trip(ALL)
    bench.settle()
    bench.says = REFUSED
    assert reload(bench, SITE_OF)
    bench.calm(10.0)
    assert (bench.view().outcome, bench.view().accounts_looked_at) == ("UNKNOWN", (14, 15))
    bench.says = None
    bench.settle(within_s=100.0)
    assert bench.view().accounts_looked_at == (14, 15, 900)


def test_a_word_on_accounts_that_were_found_holds_as_long_as_it_names_them_all():
    bench = Census()
    bench.connect()
    bench.calm()
    assert reload(bench, SITE)
    assert (bench.oms().accounts, bench.oms().accounts_complete) == (3, False)  # 900 was found before
    assert reload(bench, replace(SITE, accounts=(14, 15, 900)))
    assert (bench.oms().accounts, bench.oms().accounts_complete) == (3, True)
    bench.trip(ALL)
    bench.settle()
    assert bench.view().accounts_looked_at == (14, 15, 900)


def test_an_oms_that_is_taken_away_and_comes_again_is_asked_anew():
    bench = Census()
    bench.silent = (ListAccounts,)
    bench.connect()
    bench.calm()
    other = replace(SITE_OF, name="other", gateways=("gw:2",))
    assert reload(bench, other)
    assert reload(bench, SITE_OF)
    bench.silent = ()
    bench.connect()
    bench.calm()
    assert (bench.oms().accounts, bench.oms().accounts_complete) == (3, True)
