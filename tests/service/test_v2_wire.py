"""Inference requests of the Open Inference Protocol: what is read, what is refused, and with what words."""

from __future__ import annotations

import base64
import time
from typing import Any

import numpy as np
import pytest
from conftest import SPEC
from hypothesis import given
from hypothesis import strategies as st
from v2_bodies import NATIVE, PIXELS, binary, body, tensor, with_data

from model_store.preprocess import InputSpec
from service.errors import InvalidRequest, TooLarge
from service.headers import Budget
from service.routes.v2.images import files, pixels
from service.routes.v2.wire import MAX_JSON, pack_bytes, parse, unpack_bytes

NONE = Budget(None, None, None)


def refused(content: bytes, json_bytes: int | None = None, spec: InputSpec = SPEC) -> str:
    """Why ``content`` is refused, be it before the model is known or after."""
    with pytest.raises(InvalidRequest) as caught:
        request = parse(content, json_bytes)
        (files if request.datatype == "BYTES" else lambda _: pixels(request, spec))(request)
    assert len(caught.value.detail) < 250
    return caught.value.detail


@given(st.lists(st.binary(max_size=300), max_size=64))
def test_packed_bytes_come_back(elements: list[bytes]) -> None:
    assert unpack_bytes(memoryview(pack_bytes(elements)), len(elements)) == elements


@given(st.binary(max_size=64), st.integers(1, 64))
def test_any_other_bytes_are_refused_and_never_an_error_of_ours(content: bytes, count: int) -> None:
    try:
        elements = unpack_bytes(memoryview(content), count)
    except InvalidRequest:
        return
    assert pack_bytes(elements) == content


@given(
    st.integers(1, 64),
    st.integers(1, 9),
    st.integers(1, 9),
    st.booleans(),
    st.sampled_from(["bytes", "flat", "nested"]),
)
def test_pixels_come_back_in_every_layout_and_every_form(
    images: int, height: int, width: int, planes: bool, form: str
) -> None:
    if height == width == 3:
        return  # both layouts look the same there
    spec = SPEC.model_copy(update={"height": height, "width": width})
    generator = np.random.default_rng(images)
    wanted = generator.integers(0, 256, (images, 3, height, width), dtype=np.uint8)
    sent = wanted if planes else wanted.transpose(0, 2, 3, 1)
    if form == "bytes":
        content, json_bytes = binary(sent.tobytes(), shape=sent.shape)
    else:
        data = (sent if form == "nested" else sent.ravel()).tolist()
        content, json_bytes = body(inputs=[tensor(shape=sent.shape, data=data)]), None
    read = pixels(parse(content, json_bytes), spec)
    assert np.array_equal(np.stack(read), wanted)  # type: ignore[arg-type]
    assert all(image.shape == (3, height, width) and image.dtype == np.uint8 for image in read)  # type: ignore[union-attr]


def test_where_both_layouts_have_the_same_shape_channels_are_last() -> None:
    spec = SPEC.model_copy(update={"height": 3, "width": 3})
    sent = np.arange(27, dtype=np.uint8).reshape(1, 3, 3, 3)
    (image,) = pixels(parse(*binary(sent.tobytes(), shape=sent.shape)), spec)
    assert np.array_equal(image, sent[0].transpose(2, 0, 1))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_files_come_as_bytes_or_in_base64(shape: list[int]) -> None:
    sent = [b"\xff\xd8one", b""]
    content, json_bytes = binary(pack_bytes(sent), datatype="BYTES", shape=shape)
    assert files(parse(content, json_bytes)) == sent
    texts: list[Any] = [base64.b64encode(file).decode() for file in sent]
    for data in (texts, [[text] for text in texts]) if len(shape) == 2 else (texts,):
        assert files(parse(body(inputs=[tensor(datatype="BYTES", shape=shape, data=data)]))) == sent


def test_a_body_without_any_json_is_one_file() -> None:
    request = parse(b"\xff\xd8one", 0)
    assert files(request) == [b"\xff\xd8one"]
    assert [output.name for output in request.outputs] == ["probabilities", "label", "exit", "flops"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "JSON"),
        (b"\xff", "JSON"),
        (b"[]", "request"),
        (b"[" * 100_000, "JSON"),
        (b'{"inputs": NaN}', "JSON"),
        (b'{"id": "\\ud800", "inputs": []}', "JSON"),
        (body(), "inputs: Field required"),
        (body(inputs={}), "inputs"),
        (body(inputs=[]), "0 inputs"),
        (body(inputs=[tensor(data=[]), tensor(data=[])]), "2 inputs"),
        (body(inputs=[3]), "inputs.0"),
        (body(inputs=[tensor(data=[], name="input_1")]), "'input_1'; the input is named image"),
        (body(inputs=[tensor(data=[], shape="2")]), "inputs.0.shape"),
        (body(inputs=[tensor(data=[], shape=[2.0, 32, 32, 3])]), "inputs.0.shape.0"),
        (body(inputs=[tensor(data=[], shape=[True, 32, 32, 3])]), "inputs.0.shape.0"),
        (body(inputs=[tensor(data=[], shape=[])]), "shape []"),
        (body(inputs=[tensor(data=[], shape=[0, 32, 32, 3])]), "1 to 64 images"),
        (body(inputs=[tensor(data=[], shape=[-1, 32, 32, 3])]), "1 to 64 images"),
        (body(inputs=[tensor(data=[], shape=[65, 32, 32, 3])]), "1 to 64 images"),
        (body(inputs=[tensor(data=[], shape=[1] * 1000)]), "up to 4 dimensions"),
        (body(inputs=[tensor(data=[], shape=[32, 32, 3])]), "[B, 32, 32, 3] or [B, 3, 32, 32]"),
        (body(inputs=[tensor(data=[], shape=[1, 224, 224, 3])]), "shape [1, 224, 224, 3]"),
        (body(inputs=[tensor(data=[], shape=[1, 10**15, 1, 3])]), "takes [B, 32, 32, 3]"),
        (body(inputs=[tensor()]), "neither data nor binary_data_size"),
        (body(inputs=[tensor(data=[1, 2, 3])]), "3 values; shape [2, 32, 32, 3] has 6144"),
        (body(inputs=[tensor(shape=[1, *NATIVE], data=[256] * 3072)]), "0 to 255"),
        (body(inputs=[tensor(shape=[1, *NATIVE], data=[-1] * 3072)]), "0 to 255"),
        (body(inputs=[tensor(shape=[1, *NATIVE], data=[1.0] * 3072)]), "float"),
        (body(inputs=[tensor(shape=[1, *NATIVE], data=[True] * 3072)]), "bool"),
        (body(inputs=[tensor(shape=[1, *NATIVE], data=[None] * 3072)]), "NoneType"),
        (body(inputs=[tensor(shape=[1, *NATIVE], data=["a"] * 3072)]), "str"),
        (body(inputs=[tensor(shape=[1, *NATIVE], data=[[1], 2])]), "unevenly"),
        (body(inputs=[tensor(shape=[1, *NATIVE], data=[[[[[1]]]]])]), "list"),
        (body(inputs=[tensor(data=[], parameters={"shared_memory_region": "x"})]), "shared memory"),
        (body(inputs=[tensor(datatype="BYTES", shape=[1], data=["not base64!"])]), "image[0] is not base64"),
        (body(inputs=[tensor(datatype="BYTES", shape=[1], data=["ü"])]), "image[0] is not base64"),
        (body(inputs=[tensor(datatype="BYTES", shape=[2], data=["", 3])]), "image[1] is not base64"),
        (body(inputs=[tensor(datatype="BYTES", shape=[2], data=[""])]), "1 elements; shape [2] has 2"),
        (body(inputs=[tensor(datatype="BYTES", shape=[1, 2], data=[""])]), "[B] or [B, 1]"),
        (with_data(id=3), "id"),
        (with_data(parameters=[]), "parameters"),
        (with_data(parameters={"binary_data_output": 1}), "binary_data_output is true or false"),
        (with_data(outputs=[{}]), "outputs.0.name"),
        (
            with_data(outputs=[{"name": "logits"}]),
            "'logits'; the outputs are probabilities, label, exit, flops",
        ),
        (with_data(outputs=[{"name": "exit"}] * 2), "twice"),
        (with_data(outputs=[{"name": "exit", "parameters": {"binary_data": "yes"}}]), "binary_data is true"),
        (with_data(outputs=[{"name": "exit", "parameters": {"classification": 1}}]), "not for exit"),
        (with_data(outputs=[{"name": "exit", "parameters": {"shared_memory_region": "x"}}]), "shared memory"),
        *(
            (
                with_data(outputs=[{"name": "probabilities", "parameters": {"classification": count}}]),
                "at least 1",
            )
            for count in (0, -1, 1.0, True, "3")
        ),
    ],
)
def test_a_malformed_request_is_refused_and_its_place_is_named(content: bytes, told: str) -> None:
    assert told in refused(content)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (binary(PIXELS.tobytes(), size=6143), "binary_data_size is 6143; 6144 bytes follow"),
        (binary(PIXELS.tobytes()[:-1]), "6143 values; shape [2, 32, 32, 3] has 6144"),
        (binary(PIXELS.tobytes(), size=6143.5), "binary_data_size is 6143.5"),
        (binary(PIXELS.tobytes(), size=True), "binary_data_size is True"),
        (binary(PIXELS.tobytes(), size="6144"), "binary_data_size is 6144"),
        (binary(PIXELS.tobytes(), data=[1]), "both data and binary_data_size"),
        ((with_data() + b"xyz", len(with_data())), "3 bytes follow the JSON"),
        ((with_data(), len(with_data()) + 1), "Inference-Header-Content-Length is"),
        ((with_data(), 5), "JSON"),
        ((binary(b"12345")[0], None), "JSON"),
        (binary(b"\x02\0\0", datatype="BYTES", shape=[1]), "end within element 0 of 1"),
        (binary(b"\x02\0\0\0a", datatype="BYTES", shape=[1]), "end within element 0 of 1"),
        (binary(b"\xff\xff\xff\xff", datatype="BYTES", shape=[1]), "end within element 0 of 1"),
        (binary(b"\x01\0\0\0a", datatype="BYTES", shape=[2]), "end within element 1 of 2"),
        (binary(b"\x01\0\0\0abc", datatype="BYTES", shape=[1]), "2 bytes follow the 1 elements"),
    ],
)
def test_bytes_that_do_not_fit_their_description_are_refused(
    content: tuple[bytes, int | None], told: str
) -> None:
    assert told in refused(*content)


@pytest.mark.parametrize("mark", MAX_JSON)
def test_json_that_would_take_the_event_loop_too_long_is_too_large(mark: bytes) -> None:
    with pytest.raises(TooLarge, match="binary"):
        parse(b"[" + mark * (MAX_JSON[mark][0] + 1))


@pytest.mark.parametrize(
    "content",
    [
        b'{"inputs":[' + b"0," * 2**20 + b"0]}",
        b'{"inputs":[{"name":"image","datatype":"UINT8","shape":[' + b'"",' * 2**20 + b'""]}]}',
        b'{"inputs":[],"outputs":[' + b"0," * 2**20 + b"0]}",
    ],
)
def test_of_a_million_mistakes_one_is_told_at_once(content: bytes) -> None:
    started_s = time.process_time()
    with pytest.raises((InvalidRequest, TooLarge)):
        parse(content)
    assert time.process_time() - started_s < 1


def test_a_size_that_is_no_number_is_refused_whatever_it_is() -> None:
    size = b'"binary_data_size":' + b"[" * 1000 + b"]" * 1000
    content = b'{"inputs":[{"name":"image","datatype":"UINT8","shape":[1],"parameters":{%s}}]}' % size
    assert "binary_data_size is" in refused(content)


def test_a_million_values_are_read() -> None:
    assert "values; shape" in refused(body(inputs=[tensor(data=[1] * 1_000_000)]))


def test_without_outputs_all_are_meant_and_their_form_is_that_of_the_request() -> None:
    for everything in (False, True):
        wanted = parse(with_data(parameters={"binary_data_output": everything})).outputs
        assert [output.name for output in wanted] == ["probabilities", "label", "exit", "flops"]
        assert {output.binary for output in wanted} == {everything}
    exit_, label = parse(
        with_data(
            parameters={"binary_data_output": True},
            outputs=[
                {"name": "exit", "parameters": {"binary_data": False}},
                {"name": "label", "parameters": None},
            ],
        )
    ).outputs
    assert (exit_.binary, label.binary) == (False, True)
