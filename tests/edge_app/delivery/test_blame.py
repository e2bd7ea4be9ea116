"""Which message is to blame, and when it is hopeless: tiny stories with times."""

import pytest

from edge_app.delivery.blame import LONGEST_WAIT_S, PROOF_S, REMEMBERED_S, Blame, Item

A, B, C = Item(1, "x/event/match"), Item(2, "x/event/match"), Item(3, "x/event/revision")
BIRTH, GAP = Item(0, "x/birth"), Item(4, "x/event/gap")


@pytest.fixture
def blame():
    return Blame(offers=3, offer_again_s=10.0)


def test_a_refused_row_waits_ever_longer_and_the_others_do_not(blame):
    waits = []
    for now_s in (0.0, 100.0, 200.0, 300.0):
        blame.refused(A, "Not authorized", now_s)
        waits.append(blame.waits_until_s(A, now_s) - now_s)
    assert waits == [10, 20, 40, 80]
    assert blame.waits_until_s(A, 380.0) is None
    assert blame.waits_until_s(B, 300.0) is None
    for _ in range(100):
        blame.refused(A, "Not authorized", 400.0)
    assert blame.waits_until_s(A, 400.0) == 400.0 + LONGEST_WAIT_S


def test_hopeless_is_what_failed_while_others_were_taken(blame):
    for now_s in (0.0, 10.0, 30.0, 70.0):
        blame.refused(A, "no", now_s)
    assert blame.hopeless() == {}  # nothing is taken at all: not the row's fault
    blame.taken(B, 80.0)
    assert blame.hopeless() == {}  # perhaps it would be taken as well now
    blame.refused(A, "no", 150.0)
    assert blame.hopeless() == {}
    blame.refused(A, "no", 310.0)
    assert blame.hopeless() == {A: "no"}


def test_what_was_taken_just_before_proves_as_much(blame):
    blame.taken(B, 0.0)
    for _ in range(3):
        blame.refused(A, "no", PROOF_S)
        blame.refused(C, "no", PROOF_S + 0.1)
    assert blame.hopeless() == {A: "no"}


def test_retained_messages_and_the_account_of_losses_are_never_hopeless(blame):
    for now_s in range(10):
        blame.taken(B, float(now_s))
        blame.refused(BIRTH, "no", float(now_s))
        blame.refused(GAP, "no", float(now_s))
    assert blame.hopeless() == {}


def test_of_several_in_flight_each_is_sent_alone_until_one_is_to_blame(blame):
    blame.ended([A, B, C], "lost", 0.0)
    assert blame.alone(0.0) == {A, B, C}
    assert blame.problem(0.0) is None
    blame.taken(A, 0.1)
    blame.ended([B], "lost", 0.2)
    assert blame.alone(0.2) == {B, C}  # once is no pattern: in order, at once
    assert blame.waits_until_s(B, 0.2) is None
    assert blame.problem(0.2) is None
    blame.ended([B], "lost", 0.3)
    assert blame.waits_until_s(B, 0.3) == pytest.approx(20.3)
    assert blame.alone(0.3) == {C}  # the others go on
    assert "x/event/match: the connection ends when it is sent (lost)" in blame.problem(0.3)
    blame.taken(C, 0.4)
    assert blame.alone(0.4) == set()
    assert blame.hurried()
    assert blame.alone(21.0) == {B}
    blame.ended([B], "lost", 21.0)
    assert list(blame.hopeless()) == [B]  # B failed three times, and C was taken meanwhile


def test_a_row_that_goes_through_is_forgiven(blame):
    for now_s in (0.0, 1.0):
        blame.ended([A], "lost", now_s)
    blame.taken(A, 30.0)
    assert not blame.hurried()
    assert blame.problem(30.0) is None
    blame.ended([A], "lost", 31.0)
    assert blame.waits_until_s(A, 31.0) is None


def test_an_end_with_nothing_in_flight_blames_nobody(blame):
    blame.ended([], "lost", 0.0)
    assert not blame.hurried()


def test_the_problem_is_said_in_the_same_words_and_fades(blame):
    blame.refused(A, "no", 0.0)
    said = blame.problem(0.0)
    blame.refused(B, "no", 5.0)
    assert blame.problem(5.0) == said
    for number in range(5):
        blame.refused(Item(9, f"y/{number}"), "no", 6.0)
    assert blame.problem(6.0).endswith("and 4 more")
    assert blame.problem(6.0 + REMEMBERED_S) is None


def test_rows_that_left_the_outbox_are_forgotten(blame):
    blame.ended([A, B, BIRTH], "lost", 0.0)
    blame.ended([C], "lost", 0.0)
    blame.forget_rows()
    assert blame.alone(0.0) == {BIRTH}
