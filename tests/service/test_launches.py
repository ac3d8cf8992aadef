"""What launches tell of the load."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from model_store.nets.staged import Span
from service.engine.brownout import STEPS, Brownout
from service.engine.launches import Launches
from service.engine.queue import Entry, SpanKey
from service.engine.ticket import Ticket
from service.engine.times import NO_TIME
from service.metrics import Metrics


@pytest.mark.parametrize("dear", [False, True])
def test_dear_images_that_wait_for_the_sake_of_cheap_ones_are_no_load(dear: bool) -> None:
    model: Any = Mock(executor=Mock(images_run=lambda span, images: images), span_flops=lambda span: 1)
    model.name = "m"
    brownout = Brownout(1.0)
    launches = Launches(Metrics(), brownout, Mock(), lambda: 10.0, is_dear=lambda now_s, ticket: dear)
    waiting = Ticket(model, Mock(), None, 9.0, None, enqueued_s=9.0)
    launches._observe(SpanKey(model, Span(0, 2)), [Entry(waiting, None, 0)], 10.0, NO_TIME)
    assert waiting.queue_s == 1.0
    assert brownout.step(10.0) == (0 if dear else STEPS)
