"""Who leaves at an exit and who goes on: the exit rule for every row of a batch. The worker's thread only."""

from __future__ import annotations

from collections.abc import Sequence

from model_store.nets.staged import Features, Span
from service.engine.batch import prediction
from service.engine.executors import kept
from service.engine.queue import Entry
from service.engine.ticket import Expired, Outcome, Passed, Ticket
from service.engine.watch import DriftWatch

Delivery = list[tuple[Ticket, Outcome | Passed]]
"""Answers, and what exits on the way said to those who want to know."""


def decide(
    entries: Sequence[Entry],
    features: Features,
    table: Sequence[Sequence[float]],
    now_s: float,
    watch: DriftWatch,
) -> tuple[Delivery, list[Entry]]:
    """Apply the exit rule to every row.

    Args:
        entries: The batch that a launch has run.
        features: What it returned for the next span.
        table: Per row what ``exits.read`` says.
        now_s: Monotonic seconds.
        watch: Picks leavers to be checked.

    Returns:
        What is to be delivered, and the entries that go on to their next span.
    """
    done: Delivery = []
    staying: list[int] = []
    checks: list[Entry] = []
    # The least certain first: where an account runs dry, they are the ones whose continuing pays.
    for row in sorted(range(len(entries)), key=lambda i: table[i][0]):
        ticket = entries[row].ticket
        if not _stays(ticket, table[row][0], now_s, len(entries)):
            answer = prediction(ticket, table[row], now_s)
            done.append((ticket, answer))
            sure = table[row][0] >= ticket.plan.thresholds[ticket.position]
            if sure and (check := watch.entry(ticket, answer, features, row)) is not None:
                checks.append(check)
            continue
        staying.append(row)
        if ticket.group is not None or ticket.deadline_s is not None or ticket.passing is not None:
            ticket.answer = prediction(ticket, table[row], now_s)
            if ticket.passing is not None:
                done.append((ticket, Passed(ticket.answer)))
    if not staying:
        return done, checks
    staying.sort()
    batch = kept(features, staying)
    going: list[Entry] = []
    for i, row in enumerate(staying):
        ticket = entries[row].ticket
        going += _met(ticket, table[row][0], Entry(ticket, batch, i), done)
    for entry in going:
        entry.ticket.position += 1
    return done, going + checks


def _met(ticket: Ticket, confidence: float, entry: Entry, done: Delivery) -> list[Entry]:
    """Who goes on now that ``ticket`` has arrived: it alone, or its group once the last of it is here."""
    if ticket.group is None:
        return [entry]
    met = ticket.group.meet(confidence, entry)
    if met is None:
        return []
    leaving, going = met
    done += [(left.ticket, left.ticket.answer or Expired()) for left in leaving]
    return going


def _stays(ticket: Ticket, confidence: float, now_s: float, images: int) -> bool:
    """Whether the image goes on, or waits for its group's decision."""
    plan, position, ledger = ticket.plan, ticket.position, ticket.ledger
    if ledger is not None and position == 0:
        ledger.arrive(plan.budget or plan.allowed, plan.costs[0])
    if position + 1 == len(plan.exits):
        return False
    if ticket.group is not None:  # it must be met, else the group would wait for it
        return True
    if ticket.deadline_s is not None:
        following = Span(plan.exits[position] + 1, plan.exits[position + 1])
        if now_s + ticket.model.times.bound_s(following, images, now_s) > ticket.deadline_s:
            return False
    thresholds = plan.thresholds if ledger is None else ledger.thresholds(plan)
    if confidence >= thresholds[position]:
        return False
    step = plan.costs[position + 1] - plan.costs[position]
    return ledger is None or ledger.draw(plan.budget or plan.allowed, step)
