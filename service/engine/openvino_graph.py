"""A network as one OpenVINO graph, and the spans cut out of it.

The graph has everything that any span may need as a result: ``logits-k`` of each stage k and its features
``features-k-0``, ``features-k-1``, …, so that a graph read from a file is as good as one just converted.
"""

from __future__ import annotations

from itertools import count, takewhile

import torch
from torch import Tensor, nn

from model_store.nets.staged import Features, Span, StagedNet, fold_batch_norm
from model_store.preprocess import InputSpec
from service.engine.openvino_import import TorchScriptPythonDecoder, openvino, opset


class SpanGraphs:
    """A converted network, out of which spans are cut.

    Attributes:
        model: The whole network.
        int8: Whether ranges are written in it, so that layers compute in int8.
        stages: Number of stages.
    """

    def __init__(self, model: openvino.Model) -> None:
        """Find each stage's results in ``model``, from ``convert`` or a file."""
        self.model = model
        places = {name: place for place, output in enumerate(model.outputs) for name in output.names}
        stages = takewhile(lambda k: f"logits-{k}" in places, count())
        self._logits = [places[f"logits-{k}"] for k in stages]
        self._features = [
            [places[name] for name in takewhile(places.__contains__, (f"features-{k}-{i}" for i in count()))]
            for k in range(len(self._logits))
        ]
        self.stages = len(self._logits)
        self.int8 = any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())

    def cut(self, span: Span, images: int = -1) -> openvino.Model:
        """A model of its own for ``span``: parameters where it begins, logits and features as results.

        Args:
            span: The span.
            images: Batch size that it is for; -1 for any.
        """
        clone = self.model.clone()
        results = clone.get_results()
        parameters = clone.get_parameters()
        if span.first > 0:
            parameters = []
            for place in self._features[span.first - 1]:
                source = results[place].input_value(0)
                parameter = opset.parameter(source.partial_shape, openvino.Type.f32)
                for target in source.get_target_inputs():
                    target.replace_source_output(parameter.output(0))
                parameters.append(parameter)
        wanted = [self._logits[span.last]]
        if span.last + 1 < self.stages:
            wanted += self._features[span.last]
        model = openvino.Model([results[place] for place in wanted], parameters, f"span-{span}")
        model.reshape({port: [images, *list(port.partial_shape)[1:]] for port in model.inputs})
        return model


class _Trace(nn.Module):
    """The whole network with everything that any span may need: per stage its logits and its features."""

    mean: Tensor
    scale: Tensor

    def __init__(self, net: StagedNet, spec: InputSpec) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(spec.std).view(1, 3, 1, 1) * 255))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features: Features = ((images.float() - self.mean) * self.scale,)
        outputs: list[Tensor] = []
        for k in range(self.net.stages):
            features, logits = self.net.run_stage(k, features)
            outputs += [logits, *features]
        return tuple(outputs)


class _Traced:
    """A traced graph where OpenVINO's decoder looks for one."""

    def __init__(self, graph: torch.Graph) -> None:
        self.inlined_graph = graph


def _traced(net: nn.Module, example: Tensor) -> _Traced:
    """The graph of ``net`` with its weights as constants.

    ``torch.jit.trace`` takes the same steps, but keeps the graph in a table for as long as the process lives,
    30 MB each time that a model is loaded; and of a module it scripts each of its hundreds of parts.
    """
    names = torch.jit._trace._create_interpreter_name_lookup_fn()  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        graph, _ = torch._C._create_graph_by_tracing(
            lambda images: net(images), (example,), names, True, False, None, ["images"]
        )
    torch._C._jit_pass_inline(graph)
    return _Traced(graph)


def convert(net: StagedNet, spec: InputSpec) -> SpanGraphs:
    """Convert a folded copy of ``net`` for images of ``spec``, once for all of its spans."""
    trace = _Trace(fold_batch_norm(net), spec).eval().requires_grad_(False)
    example = torch.zeros(2, 3, spec.height, spec.width, dtype=torch.uint8)
    model = openvino.convert_model(
        TorchScriptPythonDecoder(_traced(trace, example), example_input=(example,))
    )
    model.reshape([-1, 3, spec.height, spec.width])
    with torch.inference_mode():
        features: Features = (torch.zeros(1, 3, spec.height, spec.width),)
        names: list[str] = []
        for k, block in enumerate(trace.net.blocks):
            features = block(features)
            names += [f"logits-{k}", *(f"features-{k}-{i}" for i in range(len(features)))]
    for output, name in zip(model.outputs, names, strict=True):
        output.get_tensor().set_names({name})
    return SpanGraphs(model)


def read_graphs(graph: bytes, constants: bytes) -> SpanGraphs:
    """What OpenVINO's two files hold.

    Raises:
        RuntimeError: They are no such files.
    """
    return SpanGraphs(openvino.Core().read_model(graph, constants))
