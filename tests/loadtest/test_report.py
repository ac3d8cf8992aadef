"""Percentiles, intervals, and a report from runs that are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fake_service import prediction

from loadtest.bench_plot import draw, figure_of
from loadtest.generator import Run, Sample
from loadtest.images import Picture
from loadtest.markdown import to_markdown
from loadtest.measures import percentiles_ms, wilson_interval
from loadtest.metrics_page import Page, parse_page
from loadtest.report import SCHEMA, Account, Report, Row, make_overhead, make_row

DOG = Picture(b"a dog", "dog")

BEFORE = """
# TYPE exitramp_requests_total counter
exitramp_requests_total{code="200",route="/classify"} 7
exitramp_requests_total{code="200",route="/metrics"} 1
exitramp_flops_total{kind="charged",model="small"} 9000
exitramp_flops_total{kind="executed",model="small"} 9000
process_cpu_seconds_total 4
"""
AFTER = """
# TYPE exitramp_requests_total counter
exitramp_requests_total{code="200",route="/classify"} 10
exitramp_requests_total{code="503",route="/classify"} 1
exitramp_requests_total{code="200",route="/metrics"} 9
exitramp_images_total{exit="1",model="small"} 2
exitramp_images_total{exit="2",model="small"} 1
exitramp_flops_total{kind="charged",model="small"} 14000
exitramp_flops_total{kind="executed",model="small"} 15500
exitramp_budget_flops_total{model="small"} 6000
process_cpu_seconds_total 5
process_resident_memory_bytes 1048576
"""
AT_END = """
process_cpu_seconds_total 4.6
"""


def run() -> Run:
    """Three answers after 10, 20 and 30 ms, two of them right, and a refusal after 1 ms."""
    answers = [("dog", 1, 0.01, True), ("cat", 1, 0.02, False), ("dog", 2, 0.03, True)]
    samples = [
        Sample(0.0, 0.0005, seconds, "200", False, prediction(label, number), "small", right, DOG)
        for label, number, seconds, right in answers
    ]
    refused = Sample(0.0, 0.0005, 0.001, "503", retry_after=True)
    return Run([*samples, refused], seconds=2.0, end_s=2.0, cpu_s=0.5)


def answers(count: int, done_s: float, picture: Picture = DOG) -> list[Sample]:
    """As many right answers about ``picture``, all of that moment."""
    return [
        Sample(0.0, 0.0, done_s, "200", False, prediction(), "small", True, picture) for _ in range(count)
    ]


def account(after: str = AFTER) -> Account:
    return Account(parse_page(BEFORE), parse_page(AT_END), parse_page(after), 2.0, [40.0, 60.0])


def report(*rows: Row) -> Report:
    whole = Report(
        command="exitramp bench --url http://there",
        url="http://there",
        plan={"duration_s": 2.0, "connections": 32, "seed": 0},
        images={"source": "pets", "count": 9, "labelled": 9},
        rows=list(rows),
        capacity={"20M": 3.0, "none": 3.0},
        overhead=[make_overhead(None, run()), make_overhead(6.0, run())],
        model="small",
    )
    whole.models = [{"name": "small", "version": 1, "policy": "p", "device": "abacus"}]
    return whole


def test_percentiles_are_times_that_occurred() -> None:
    assert percentiles_ms(range(1, 101)) == {"p50": 50e3, "p95": 95e3, "p99": 99e3, "max": 100e3}
    assert percentiles_ms([0.002]) == dict.fromkeys(("p50", "p95", "p99", "max"), 2.0)
    assert percentiles_ms([0.003, 0.001, 0.002])["p50"] == 2.0
    assert percentiles_ms([]) == {}


def test_the_interval_of_a_share_is_wilson_s() -> None:
    # Agresti and Coull (1998), table 1: 0 of 10 and 5 of 10.
    assert wilson_interval(0.0, 10) == pytest.approx((0, 0.2775), abs=1e-3)
    assert wilson_interval(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)
    assert wilson_interval(1.0, 10)[1] == 1.0


def test_a_row_has_what_came_back_and_what_the_service_says() -> None:
    row = make_row("20M", 0.5, 6.0, run(), account())
    assert (row.loop, row.sent, row.answered, row.statuses) == ("open", 4, 3, {"200": 3, "503": 1})
    assert row.throughput == 1.5
    assert row.latency_ms == {"p50": 20.0, "p95": 30.0, "p99": 30.0, "max": 30.0}
    assert row.failure_ms["max"] == 1.0 and row.lag_ms["p50"] == 0.5
    assert (row.labelled, row.accuracy) == (3, pytest.approx(2 / 3))
    assert row.exits == {"1": pytest.approx(2 / 3), "2": pytest.approx(1 / 3)}
    assert row.charged_flops == pytest.approx(5000 / 3)
    assert row.executed_flops == pytest.approx(6500 / 3) and row.allowed_flops == 2000
    assert row.server_cores == pytest.approx(0.3)  # until the last was sent, not until it was answered
    assert (row.server_mib, row.client_cores, row.card_percent) == (1.0, 0.25, 50.0)
    assert row.mismatches == [] and not row.client_bound


def test_one_late_answer_lengthens_the_drain_and_lowers_no_rate() -> None:
    """100 a second for two seconds, of which one is stuck for twelve."""
    late = Run([*answers(199, 1.0), *answers(1, 14.0)], seconds=2.0, end_s=2.0, cpu_s=0.5)
    row, overhead = make_row("20M", 0.5, 100.0, late, account()), make_overhead(None, late)
    assert (row.throughput, overhead.throughput) == (99.5, 99.5)
    assert (row.seconds, row.drain_s, row.answered, row.latency_ms["max"]) == (2.0, 12.0, 200, 14000.0)
    assert (row.client_cores, overhead.client_cores) == (0.25, 0.25)
    assert make_row("20M", 0.5, 6.0, run(), account()).drain_s == 0.0


def test_an_image_that_is_sent_again_does_not_narrow_the_interval_of_the_accuracy() -> None:
    cat = Picture(b"a cat", "cat")
    once = make_row("20M", 0.5, 6.0, Run([*answers(1, 1.0), *answers(1, 1.0, cat)], 2.0, 2.0), account())
    often = make_row("20M", 0.5, 6.0, Run([*answers(50, 1.0), *answers(50, 1.0, cat)], 2.0, 2.0), account())
    assert (once.labelled, once.distinct, often.labelled, often.distinct) == (2, 2, 100, 2)
    assert once.accuracy_95 == often.accuracy_95 == wilson_interval(1.0, 2)


def offered(load: float | None, refused: int) -> Row:
    """A thousand requests, so many of them refused."""
    samples = [*answers(1000 - refused, 1.0), *(Sample(0.0, 0.0, 1.0, "503") for _ in range(refused))]
    rate = None if load is None else 1000 * load
    return make_row("20M", load, rate, Run(samples, 2.0, 2.0), account())


def test_the_summary_shows_the_highest_load_that_was_answered_or_that_none_was() -> None:
    def summary(*rows: Row) -> str:
        return to_markdown(report(offered(None, 0), *rows)).split("## Each budget")[0]

    assert "| answered load | offered /s | answered /s | errors | p50 ms | p99 ms |" in summary()
    answered = summary(offered(0.25, 0), offered(0.5, 1), offered(0.75, 2), offered(0.9, 790))
    assert "| 0.50 | 500 | 500 | 0.10% | 1000.0 | 1000.0 |" in answered
    assert "| none |  |  | ≥ 0.2% |  |  |" in summary(offered(0.25, 2), offered(0.9, 790))
    assert "| not measured |  |  |  |  |  |" in summary()


def test_the_figure_shows_errors_and_p95_also_of_labelled_images() -> None:
    unknown = offered(0.9, 790)
    for rows, panels in (
        ([offered(0.25, 0), offered(0.9, 790)], 6),
        ([replace(unknown, accuracy=None, accuracy_95=None)], 5),
    ):
        axes = {one.get_title(loc="left"): one for one in figure_of(report(*rows)).axes}
        assert len(axes) == panels
        (errors,) = axes["requests without a prediction, %"].get_lines()
        assert list(errors.get_ydata())[-1] == pytest.approx(79.0)
        (p95,) = axes["latency from the intended start, ms: p95"].get_lines()
        assert list(p95.get_ydata()) == [1000.0] * len(rows)


def test_every_difference_between_answers_and_metrics_is_named() -> None:
    after = AFTER.replace('code="200",route="/classify"} 10', 'code="200",route="/classify"} 11')
    after = after.replace('exit="2",model="small"} 1', 'exit="3",model="small"} 1').replace(
        " 14000", " 13999"
    )
    assert make_row("20M", 0.5, 6.0, run(), account(after)).mismatches == [
        "status 200: 3 in the answers, 4 in the metrics",
        "exit 2: 1 in the answers, 0 in the metrics",
        "exit 3: 0 in the answers, 1 in the metrics",
        "FLOPs charged: 5000 in the answers, 4999 in the metrics",
    ]


def test_a_client_that_is_late_or_busy_is_flagged() -> None:
    late, busy = run(), run()
    late.samples[2].sent_s = 0.004  # of 30 ms
    busy.cpu_s = 1.9  # of 2 s
    for slow in (late, busy):
        row = make_row("20M", 0.5, 6.0, slow, account())
        assert row.client_bound and "| c |" in to_markdown(report(row))


def test_the_report_is_written_for_people_and_for_programs(tmp_path: Path) -> None:
    rows = [
        make_row(budget, load, rate, run(), account())
        for budget in ("20M", "none")
        for load, rate in ((None, None), (0.5, 6.0), (1.1, 13.0))
    ]
    whole = report(*rows)
    draw(whole, tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads(json.dumps(whole.to_json()))
    assert told["schema"] == SCHEMA and len(told["rows"]) == 6 and told["rows"][1]["rate"] == 6.0
    text = to_markdown(whole, "report.png")
    assert "### `X-FLOP-Budget: 20M`" in text and "### No budget of their own" in text
    assert "| 0.50 | 6 | 2 | 20.0 | 30.0 | 30.0 | 30.0 | 0.0 | 503: 1 (25.0%) | 66.7 ±" in text
    assert "at most 2 requests a second, each for 125.00 ms" in text
    assert "small@1, policy p, on abacus" in text and "(report.png)" in text and "Incomplete" not in text


def test_without_labels_there_is_no_accuracy_and_an_unfinished_report_says_so(tmp_path: Path) -> None:
    unknown = run()
    for sample in unknown.samples:
        sample.right = None
    whole = report(make_row("none", None, None, unknown, account()))
    whole.images |= {"labelled": 0}
    whole.incomplete = "interrupted"
    draw(whole, tmp_path / "report.png")
    text = to_markdown(whole)
    assert "so there is no accuracy" in text and "**Incomplete: interrupted**" in text and "![" not in text
    assert whole.rows[0].accuracy is None and whole.rows[0].loop == "closed"


def test_a_run_without_a_single_answer_still_makes_a_row() -> None:
    lost = Run([Sample(0.0, 0.0, 0.5, "ClientConnectorError")], seconds=1.0)
    row = make_row("none", 1.1, 9.0, lost, Account(Page({}), Page({}), Page({}), 1.0, []))
    assert (row.answered, row.accuracy, row.charged_flops, row.server_cores) == (0, None, None, None)
    assert "ClientConnectorError: 1 (100.0%)" in to_markdown(report(row))
