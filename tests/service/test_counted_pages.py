"""Pages that come without a route of ours are counted by their name; what nobody knows is not."""

from __future__ import annotations

import httpx

from service.app import create_app
from service.settings import Settings


async def test_documentation_is_counted_by_its_name_and_labels_stay_few() -> None:
    app = create_app(Settings())
    asked = ["/openapi.json", "/docs", "/redoc", "/static-offline-docs/none.js", "/nowhere", "/static-x"]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        codes = {path: (await client.get(path)).status_code for path in asked}
    counted = {
        (sample.labels["route"], sample.labels["code"]): sample.value
        for metric in app.state.service.metrics.requests.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.value
    }
    assert codes["/openapi.json"] == codes["/docs"] == codes["/redoc"] == 200
    assert counted == {
        ("/openapi.json", "200"): 1,
        ("/docs", "200"): 1,
        ("/redoc", "200"): 1,
        ("/static-offline-docs", "404"): 1,
        ("unmatched", "404"): 2,
    }
