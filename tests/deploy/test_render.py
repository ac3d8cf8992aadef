"""The dashboard drawn without Grafana: one time for all panels, nothing covered, errors of one line."""

from __future__ import annotations

import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dashboards import panels
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deploy.grafana.answers import Series, Source
from deploy.grafana.drawing import DRAW, show_times
from deploy.grafana.render import main

START_S = datetime(2026, 1, 1, 8, 28, tzinfo=UTC).timestamp()


class Canned(Source):
    """Answers every query with two series, one of which has no number."""

    def ask(self, path: str, **parameters: str) -> Any:
        numbers = [[START_S, "NaN"], [START_S + 20, "0.5"], [START_S + 40, "0.7"]]
        return {
            "result": [
                {"metric": {"model": name}, "value": values[-1], "values": values}
                for name, values in (("busy", numbers), ("idle", [[at, "NaN"] for at, _ in numbers]))
            ]
        }


def drawn(title: str, shown: list[Series], seconds: float = 300) -> tuple[Axes, FigureCanvasAgg]:
    panel = next(panel for panel in panels() if panel["title"] == title)
    figure = Figure(figsize=(12, 30))
    axes = figure.add_axes((0.05, 0.5, 0.28, 0.05))
    DRAW[panel["type"]](axes, panel, shown)
    if panel["type"] == "timeseries":
        show_times(axes, START_S, START_S + seconds)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return axes, canvas


def shown(names: tuple[str, ...]) -> list[Series]:
    source = Canned("", START_S + 300, 300, {})
    return [
        Series(name, *(series.times, series.values))
        for name in names
        for series in source.series({"expr": ""})
    ]


@pytest.mark.parametrize("instant", [True, False])
def test_what_is_no_number_is_left_out(instant: bool) -> None:
    target = {"expr": "", "instant": instant, "legendFormat": "{{model}}"}
    (series,) = Canned("", START_S + 300, 300, {}).series(target)
    assert series.name == "busy" and series.values[-1] == 0.7 and len(series.values) == (1 if instant else 2)


@pytest.mark.parametrize(
    ("minutes", "first"),
    [(1, "08:28:00"), (5, "08:28"), (30, "08:30"), (3000, "01 Jan 12:00"), (10000, "03 Jan")],
)
def test_times_are_those_asked_for_and_no_two_marks_read_the_same(minutes: int, first: str) -> None:
    axes, _ = drawn("Latency p50 by route", shown(("/classify",)), 60 * minutes)
    assert axes.get_xlim() == (START_S, START_S + 60 * minutes)
    low, high = axes.get_xlim()
    marks = [label.get_text() for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
    assert marks[0] == first and len(marks) == len(set(marks)) > 2


@pytest.mark.parametrize("title", ["Latency p50 by route", "Queue depth by stage"])
def test_a_legend_covers_neither_curves_nor_marks(title: str) -> None:
    axes, canvas = drawn(title, shown(tuple(f"/v2/models/{number}/infer" for number in range(8))))
    legend = axes.get_legend()
    assert legend is not None
    box = legend.get_window_extent(canvas.get_renderer())
    marks = [label.get_window_extent(canvas.get_renderer()) for label in axes.get_xticklabels()]
    assert not box.overlaps(axes.get_window_extent()) and not any(map(box.overlaps, marks))


def test_a_curve_breaks_where_nothing_was_measured() -> None:
    (series,) = shown(("/classify",))
    series.times[1] += 100
    axes, _ = drawn("Latency p50 by route", [series])
    assert len(axes.lines[0].get_xydata()) == 3  # two samples, and the break between them


def test_the_models_have_headings() -> None:
    labels = {
        "model": "small",
        "version": "3",
        "device": "CPU bf16",
        "instance": "a",
        "policy": "p",
        "task": "t",
    }
    (series,) = shown(("",))
    axes, _ = drawn("Models", [Series("", series.times, series.values, labels)])
    heading, row = (text.get_text() for text in axes.texts)
    assert heading.split() == ["model", "version", "task", "policy", "device", "instance"]
    assert row.index("CPU bf16") == heading.index("device") and row.startswith("small")


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["render", *map(str, arguments)])
    try:
        return main()
    except SystemExit as error:
        assert isinstance(error.code, int)
        return error.code


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--minutes", "0"), "--minutes 0"),
        (("--minutes", "nan"), "--minutes nan"),
        (("--out", "{folder}/nope/d.png"), "/nope/d.png: no such folder"),
        (("--out", "{folder}"), "no file"),
        (("--variable", "model"), "--variable model: needs NAME=VALUE"),
        (("--dashboard", "{folder}/nope.json"), "nope.json"),
        (("--prometheus", "http://127.0.0.1:{port}"), "no Prometheus at http://127.0.0.1:"),
        (("--prometheus", "127.0.0.1:{port}"), "no Prometheus at 127.0.0.1:"),
    ],
)
def test_what_prevents_a_picture_is_one_line(
    arguments: tuple[str, ...],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        given = [argument.format(folder=tmp_path, port=port) for argument in arguments]
        nobody = f"http://127.0.0.1:{port}"
        code = called(monkeypatch, "--prometheus", nobody, "--out", tmp_path / "d.png", *given)
    error = capsys.readouterr().err
    assert code != 0 and told in error and error.count("\n") == 1
    assert not (tmp_path / "d.png").exists()
