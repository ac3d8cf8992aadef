"""Temperatures make probabilities mean what they say, and are kept only where they help."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from simulated import STAGES, scores

from model_store.training.calibrate import calibrate
from model_store.training.scores import Scores
from model_store.training.temperature import fit_temperature, useful_temperatures


def drawn(rows: int, temperature: float, seed: int = 0) -> Scores:
    """One exit whose logits are ``temperature`` times what its labels are drawn from."""
    random = np.random.default_rng(seed)
    logits = 2 * random.standard_normal((rows, 10))
    labels = (logits + random.gumbel(size=(rows, 10))).argmax(axis=1)
    overconfident = torch.from_numpy((temperature * logits).astype(np.float32))
    return Scores(overconfident[None], torch.from_numpy(labels), "drawn", (0,))


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.8])
def test_the_temperature_is_found_that_the_logits_were_heated_by(temperature: float) -> None:
    scores = drawn(20_000, temperature)
    assert fit_temperature(scores.logits[0], scores.labels) == pytest.approx(temperature, rel=0.04)


def test_temperatures_are_kept_only_where_they_help_beyond_noise() -> None:
    assert useful_temperatures(drawn(2_000, 1.0)) is None
    assert useful_temperatures(drawn(2_000, 1.5)) == pytest.approx((1.5,), rel=0.1)


def test_at_its_temperatures_a_policy_tells_probabilities_that_mean_what_they_say() -> None:
    hot = [Scores(3.0 * s.logits, s.labels, s.source, s.exits) for s in (scores(1000, 1), scores(1000, 2))]
    found = calibrate(*hot, STAGES)
    assert found.policy.temperatures == found.report.temperatures != ()
    assert found.report.calibration_errors == found.report.scaled_calibration_errors
    assert np.mean(found.report.calibration_errors) < 0.7 * np.mean(found.report.unscaled_calibration_errors)
