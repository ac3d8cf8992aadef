"""The service in virtual time: the real worker's decisions, and times that can be added up by hand."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import SmallStore
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.nets.staged import Span
from model_store.training.replay import replay
from model_store.training.scores import Scores
from service.simulation.costs import Costs
from service.simulation.known import KnownImages, drawn_images, exit_shares
from service.simulation.policies import NOT_MERGING, POLICIES
from service.simulation.result import Outcome
from service.simulation.serve import Rules, Service, closed_loop, open_loop
from service.simulation.traffic import Arrival, poisson, read_trace, reshuffled, scaled

MS = 0.001
ROWS = 200
IDEAL = Costs(receive_s=1e-9, respond_s=1e-9, cores=8, threads=1)
REAL = Costs(
    receive_s=0.2 * MS,
    respond_s=0.1 * MS,
    launch_s=0.1 * MS,
    image_s=0.02 * MS,
    client_s=0.1 * MS,
    cores=2,
    threads=1,
)


class Times:
    """1 ms for a launch of one image, half a millisecond for each further one."""

    def seconds(self, span: Span, images: int) -> float:
        return (1 + 0.5 * (images - 1)) * MS

    def images_run(self, span: Span, images: int) -> int:
        return images


class Padded(Times):
    """Launches of four images, or more."""

    def images_run(self, span: Span, images: int) -> int:
        return max(images, 4)


def known(rows: int = ROWS) -> KnownImages:
    """Logits whose confidences spread over 0..1 and rise with depth."""
    drawn = torch.Generator().manual_seed(0)
    logits = torch.randn(4, rows, 10, generator=drawn) * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None]
    return KnownImages(logits, torch.zeros(rows, dtype=torch.int64), "small@1")


def sure_from(*exits: int) -> KnownImages:
    """Images that are sure from the given exit (0-based) on and know nothing before."""
    logits = torch.zeros(4, len(exits), 10)
    for row, exit_ in enumerate(exits):
        logits[exit_:, row, 0] = 100.0
    return KnownImages(logits, torch.zeros(len(exits), dtype=torch.int64), "small@1")


def service(
    store: SmallStore, images: KnownImages, costs: Costs = REAL, rules: Rules | None = None
) -> Service:
    return Service(store.artifact.manifest, images, Times(), costs, rules or Rules())


def asked(store: SmallStore) -> list[Arrival]:
    full = store.artifact.manifest.policy.segments[0].costs[-1]
    none = Arrival(arrival_s=0, row=0)
    others = [{"budget": 0.6 * full}, {"limit": 1e9}, *({"deadline_ms": ms} for ms in (1.0, 8.0, 40.0))]
    return [none, *(none.model_copy(update=update) for update in others)]


def test_two_images_take_as_long_as_one_can_add_up(small_store: SmallStore) -> None:
    costs = Costs(receive_s=0.1 * MS, respond_s=0.2 * MS, cores=8, threads=1)
    arrivals = [Arrival(arrival_s=0, row=0), Arrival(arrival_s=0.05 * MS, row=1)]
    first_leaves = sure_from(0, 3)
    alone = open_loop(service(small_store, first_leaves, costs, Rules(max_wait_s=0.0)), arrivals)
    # Received at 0.1 and 0.2; first span 0.1-1.1 and 1.1-2.1, then two more for the second; 0.2 to respond.
    assert [one.done_s / MS for one in alone.served] == pytest.approx([1.3, 4.3])
    assert [one.exit for one in alone.served] == [1, 4]
    slower = costs.model_copy(update={"among_s": 1 * MS})  # each launch
    among = open_loop(service(small_store, first_leaves, slower, Rules(max_wait_s=0.0)), arrivals)
    assert [one.done_s / MS for one in among.served] == pytest.approx([2.3, 8.3])
    together = open_loop(service(small_store, first_leaves, costs), arrivals)
    # The first waits for the second, which is being received: one launch of both, 0.2-1.7.
    assert [one.done_s / MS for one in together.served] == pytest.approx([1.9, 3.9])
    assert [launch.images for launch in together.launches] == [2, 1, 1]


VARIANTS = [Rules(pick=one.pick, queues=one.queues) for one in (*POLICIES.values(), NOT_MERGING)]


@given(
    rate=st.sampled_from([50.0, 400.0, 1500.0, 5000.0]),
    seed=st.integers(0, 5),
    rules=st.sampled_from([*VARIANTS, Rules(max_batch=3)]),
)
@settings(max_examples=25)
def test_every_arrival_leaves_once_and_what_it_is_charged_is_its_own_way(
    small_store: SmallStore, rate: float, seed: int, rules: Rules
) -> None:
    images, arrivals = known(), poisson(rate, 120, ROWS, seed, asked(small_store))
    simulated = service(small_store, images, rules=rules)
    outcome = open_loop(simulated, arrivals)
    assert Counter(one.arrival for one in outcome.served) == Counter(arrivals)
    ends = [one.done_s for one in outcome.served]
    assert ends == sorted(ends) and all(one.seconds > 0 for one in outcome.served)
    assert all(
        a.ended_s - a.started_s > 0 and a.ended_s <= b.started_s for a, b in pairwise(outcome.launches)
    )
    for one in outcome.answered:
        plan = simulated.model.plan(one.arrival.budget, one.arrival.limit, one.arrival.deadline_ms is None)
        assert one.flops == plan.costs[plan.exits.index(one.exit - 1)]
        assert one.index == int(images.logits[one.exit - 1, one.arrival.row].argmax())
    charged = sum(one.flops for one in outcome.served)
    if all(one.deadline_ms is None for one in arrivals):
        assert outcome.executed_flops == charged
    assert max(launch.images for launch in outcome.launches) <= rules.max_batch


def test_images_one_after_the_other_leave_where_the_offline_replay_says(small_store: SmallStore) -> None:
    images, manifest = known(), small_store.artifact.manifest
    arrivals = [Arrival(arrival_s=0.1 * row, row=row) for row in range(ROWS)]
    simulated = service(small_store, images)
    outcome = open_loop(simulated, arrivals)
    plan = simulated.model.plan(None, None, True)
    scores = Scores(images.logits[list(plan.exits)], images.labels, "drawn", plan.exits)
    expected = replay(plan, scores, manifest.policy)
    assert [one.exit - 1 for one in outcome.served] == expected.exits.tolist()
    assert [one.flops for one in outcome.served] == expected.flops.tolist()
    assert [one.index for one in outcome.served] == expected.classes.tolist()
    assert outcome.executed_over_charged == pytest.approx(1.0)


def test_what_fills_up_a_batch_is_executed_and_not_charged(small_store: SmallStore) -> None:
    simulated = Service(small_store.artifact.manifest, sure_from(0), Padded(), IDEAL, Rules())
    outcome = open_loop(simulated, [Arrival(arrival_s=0, row=0), Arrival(arrival_s=1, row=0)])
    assert [launch.images for launch in outcome.launches] == [1, 1]
    assert outcome.executed_over_charged == pytest.approx(4.0)


def test_the_device_never_rests_while_somebody_waits(small_store: SmallStore) -> None:
    outcome = open_loop(
        service(small_store, known(), IDEAL, Rules(max_wait_s=0.0)), poisson(600.0, 300, ROWS)
    )
    gaps = [(a.ended_s, b.started_s) for a, b in pairwise(outcome.launches) if b.started_s > a.ended_s + 1e-7]
    assert gaps  # at this rate it rests now and then
    for ended_s, started_s in gaps:
        before = [one for one in outcome.served if one.arrival.arrival_s < started_s - 1e-6]
        assert all(one.done_s <= ended_s + 1e-6 for one in before)


def test_the_same_traffic_has_the_same_outcome(small_store: SmallStore) -> None:
    def once() -> Outcome:
        return open_loop(service(small_store, known()), poisson(900.0, 200, ROWS, 3, asked(small_store)))

    first, second = once(), once()
    assert first.served == second.served and first.launches == second.launches


def test_more_load_makes_larger_batches_and_longer_waits(small_store: SmallStore) -> None:
    calm, busy = (open_loop(service(small_store, known()), poisson(rate, 400, ROWS)) for rate in (50, 900))
    assert busy.latency_s(0.99) > calm.latency_s(0.99)
    first = Span(0, 0)
    assert busy.mean_batches()[first] > calm.mean_batches()[first]
    assert busy.device_share > calm.device_share


def test_whoever_comes_when_all_permits_are_taken_is_refused(small_store: SmallStore) -> None:
    arrivals = [Arrival(arrival_s=i * 1e-6, row=i) for i in range(100)]
    outcome = open_loop(service(small_store, known(), IDEAL, Rules(max_in_flight=10)), arrivals)
    assert len(outcome.served) == 100 and 10 <= len(outcome.answered) < 100
    assert Counter(one.status for one in outcome.served)["refused"] == 100 - len(outcome.answered)


def test_a_deadline_gets_the_answer_in_hand_or_none(small_store: SmallStore) -> None:
    asked = ((0.0, 2.5), (0.1, 0.5), (0.2, 40.0))
    arrivals = [Arrival(arrival_s=time_s, row=0, deadline_ms=limit_ms) for time_s, limit_ms in asked]
    outcome = open_loop(service(small_store, sure_from(3), IDEAL), arrivals)
    in_hand, none, full = outcome.served
    assert (in_hand.status, in_hand.exit) == ("answered", 2)
    assert in_hand.seconds == pytest.approx(2.5 * MS)  # a launch is under way when the deadline strikes
    assert (none.status, none.exit, none.met) == ("expired", 0, False)
    assert none.seconds == pytest.approx(0.5 * MS + IDEAL.respond_s)
    assert (full.status, full.exit, full.met) == ("answered", 4, True)


def test_a_closed_loop_sends_when_an_answer_is_there(small_store: SmallStore) -> None:
    users = [Arrival(arrival_s=0, row=0)] * 50
    one = closed_loop(service(small_store, sure_from(0), IDEAL), users, connections=1)
    assert one.throughput == pytest.approx(1 / MS, rel=0.03)  # a launch of one image after the other
    many = closed_loop(service(small_store, sure_from(0), IDEAL), users * 20, connections=16)
    assert many.throughput > 1.5 * one.throughput


def test_known_images_are_kept_in_a_file(tmp_path: Path) -> None:
    images = known(5)
    images.write(tmp_path / "known.npz")
    again = KnownImages.read(tmp_path / "known.npz")
    assert torch.equal(again.logits, images.logits) and torch.equal(again.labels, images.labels)
    assert again.model == "small@1" and len(again) == 5


def test_drawn_images_leave_in_the_shares_of_the_calibration(small_store: SmallStore) -> None:
    simulated = service(small_store, known())
    plan = simulated.model.plan(None, None, True)
    images = drawn_images(plan, 4, 10, count=2000)
    sure = images.logits.softmax(dim=2).amax(dim=2) > 0.9
    leaves = Counter(int(sure[:, row].nonzero()[0]) for row in range(2000))
    assert sum(exit_shares(plan)) == pytest.approx(1.0)
    for exit_, share in zip(plan.exits, exit_shares(plan), strict=True):
        assert leaves[exit_] / 2000 == pytest.approx(share, abs=0.04)


def test_a_trace_is_read_sorted_scaled_and_reshuffled(tmp_path: Path) -> None:
    place = tmp_path / "trace.jsonl"
    place.write_text(
        '{"arrival_s": 3, "row": 1, "budget": 5}\n\n{"arrival_s": 1, "row": 0, "deadline_ms": 7}\n'
    )
    trace = read_trace(place)
    assert [one.row for one in trace] == [0, 1] and trace[0].deadline_ms == 7
    assert [one.arrival_s for one in scaled(trace, 10.0)] == pytest.approx([0.0, 0.2])
    other = reshuffled(trace, 1)
    assert [one.arrival_s for one in other] == [1, 3] and sorted(one.row for one in other) == [0, 1]
    with pytest.raises(ValueError, match="rate"):
        scaled(trace[:1], 1.0)
    place.write_text('{"arrival_s": 3}\n')
    with pytest.raises(ValueError, match="row"):
        read_trace(place)
