"""``/openapi.json`` is whole and true to itself: every error, header and example, each valid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import errors
from service.app import create_app
from service.documents.errors import EVERYWHERE, OCCURRENCES
from service.documents.headers import NUMBER
from service.headers import _OURS, NUMBER_CHARACTERS, parse_number
from service.problems import CODE_URN
from service.settings import Settings

Described = dict[str, Any]

HTTP = {"get", "post", "put", "delete"}

READ_BY_HTTP = {"Content-Type", "Content-Encoding"}
"""What OpenAPI says with media types, or not at all."""


@pytest.fixture(scope="module")
def document() -> Described:
    return create_app(Settings()).openapi()


def operations(document: Described) -> Iterator[tuple[str, Described]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert method in HTTP
            yield f"{method.upper()} {path}", operation


def parts(node: Any) -> Iterator[Described]:
    """Every object in a document."""
    if isinstance(node, dict):
        yield node
    for entry in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from parts(entry)


def resolved(document: Described, node: Described) -> Described:
    for step in node.get("$ref", "#").removeprefix("#").split("/")[1:]:
        node = node[step] if step in node else document[step]
    return node


def found(document: Described, node: Described) -> Any:
    """What a reference means, or the node itself."""
    if "$ref" not in node:
        return node
    place: Any = document
    for step in node["$ref"].removeprefix("#/").split("/"):
        place = place[step]
    return place


def valid(document: Described, schema: Described, value: Any) -> bool:
    whole = {**schema, "components": document["components"]}
    validator = jsonschema_rs.Draft202012Validator(whole)
    return bool(validator.is_valid(value))


def with_schemas(document: Described) -> Iterator[Described]:
    """Everything that has a schema and may have examples of it."""
    for part in parts(document["paths"]):
        if isinstance(part.get("schema"), dict) and "properties" not in part:
            yield part
    yield from document["components"]["headers"].values()


def examples_of(document: Described, part: Described) -> list[Any]:
    named = [found(document, example)["value"] for example in part.get("examples", {}).values()]
    own = [part["example"]] if "example" in part else []
    return [*named, *own, *part["schema"].get("examples", [])]


def test_it_is_an_openapi_document(document: Described) -> None:
    # The structure is what schemathesis checks when it loads one.
    import schemathesis

    loaded = schemathesis.openapi.from_dict(document)
    loaded.validate()
    assert document["openapi"].startswith("3.1")


def test_every_reference_leads_somewhere(document: Described) -> None:
    references = {part["$ref"] for part in parts(document) if isinstance(part.get("$ref"), str)}
    assert len(references) > 50
    for reference in references:
        assert found(document, {"$ref": reference}), reference


def test_every_error_has_one_example() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")]
    leaves = [kind for kind in kinds if isinstance(getattr(kind, "status", None), int)]
    assert sorted(kind.__name__ for kind in leaves) == sorted(type(error).__name__ for error in OCCURRENCES)


def test_every_operation_says_in_words_what_it_does_and_what_comes_back(document: Described) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    found_operations = dict(operations(document))
    assert len(found_operations) >= 32
    for name, operation in found_operations.items():
        assert set(operation["tags"]) <= tags and 10 < len(operation["summary"]) <= 90, name
        assert re.match(r"[A-Z][a-z]+ ", operation["summary"]) and "``" not in operation["summary"], name
        for status, response in operation["responses"].items():
            assert response["description"] not in ("Successful Response", ""), (name, status)
            assert response.get("content") or status == "304", (name, status)


def test_every_answer_that_is_no_file_has_an_example(document: Described) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            for media_type, part in response.get("content", {}).items():
                if part["schema"].get("format") != "binary":
                    assert examples_of(document, part), (name, status, media_type)
        for media_type, part in operation.get("requestBody", {}).get("content", {}).items():
            if "json" in media_type:
                assert examples_of(document, part), (name, media_type)
        for parameter in operation["parameters"]:
            assert examples_of(document, parameter) and parameter["description"], (name, parameter["name"])


def test_every_example_is_valid(document: Described) -> None:
    seen = 0
    for part in with_schemas(document):
        for example in examples_of(document, part):
            assert valid(document, part["schema"], example), (part["schema"], example)
            seen += 1
    assert seen > 300


def test_every_status_names_its_codes_and_their_examples_have_them(document: Described) -> None:
    named = set()
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            for part in response["content"].values():
                codes = part["schema"]["allOf"][1]["properties"]["code"]["enum"]
                assert set(part["examples"]) == set(codes), name
                named |= set(codes)
                for example in examples_of(document, part):
                    assert example["code"] in codes and str(example.get("status", status)) == status
                    assert example.get("type", CODE_URN + example["code"]) == CODE_URN + example["code"]
    named |= {"not_found", "method_not_allowed"}  # of addresses and methods that are not documented
    assert named == {error.code for error in OCCURRENCES}


def test_every_route_documents_what_every_route_may_answer(document: Described) -> None:
    for name, operation in operations(document):
        assert {str(kind.status) for kind in EVERYWHERE} <= set(operation["responses"]), name
        for status, response in operation["responses"].items():
            assert "X-Request-Id" in response["headers"], (name, status)


def test_every_header_that_is_read_is_documented(document: Described) -> None:
    asked = {
        parameter["name"]
        for _, operation in operations(document)
        for parameter in operation["parameters"]
        if parameter["in"] == "header"
    }
    keys = {scheme["name"] for scheme in document["components"]["securitySchemes"].values()}
    assert keys == {"X-API-Key", "X-Admin-Key"}
    assert asked | keys >= set(_OURS.values()) - READ_BY_HTTP
    assert asked >= {"traceparent", "tracestate", "If-None-Match", "Inference-Header-Content-Length"}


def test_headers_of_errors_are_those_that_errors_bring(document: Described) -> None:
    for name, operation in operations(document):
        told = {status: set(response["headers"]) for status, response in operation["responses"].items()}
        assert "Retry-After" in told.get("503", {"Retry-After"}), name
        assert "WWW-Authenticate" in told.get("401", {"WWW-Authenticate"}), name
        assert ("401" in told) == ("security" in operation), name
    assert "Allow" in document["components"]["responses"]["MethodNotAllowed"]["headers"]


@given(st.from_regex(NUMBER, fullmatch=True) | st.text("0123456789.eE+-kMGT ", max_size=8))
def test_the_documented_grammar_of_numbers_is_the_one_that_is_read(text: str) -> None:
    fits = re.fullmatch(NUMBER.strip("^$"), text) is not None and len(text) <= NUMBER_CHARACTERS
    try:
        parse_number(text)
    except ValueError:
        exponent = re.search(r"[eE]([+-]?[0-9]+)", text)
        assert not fits or (exponent is not None and abs(int(exponent[1])) > 200), text
    else:
        assert fits, text
