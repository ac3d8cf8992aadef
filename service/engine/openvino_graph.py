"""A network as one OpenVINO graph, and the spans cut out of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model_store.nets.staged import Features, Span, StagedNet, fold_batch_norm
from model_store.preprocess import InputSpec
from service.engine.openvino_import import TorchScriptPythonDecoder, openvino, opset


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


class SpanGraphs:
    """The converted network and where each stage's logits and features are among its results."""

    def __init__(self, model: openvino.Model, ports: list[list[int]], shapes: list[list[torch.Size]]) -> None:
        """Keep what ``convert`` found.

        Args:
            model: With everything that any span needs as a result.
            ports: Per stage: the result of its logits, then those of its features.
            shapes: Per stage: the features' shapes.
        """
        self._model = model
        self._ports = ports
        self._shapes = shapes

    def cut(self, span: Span, images: int = -1) -> openvino.Model:
        """A model of its own for ``span``: parameters where it begins, logits and features as results.

        Args:
            span: The span.
            images: Batch size that it is for; -1 for any.
        """
        clone = self._model.clone()
        results = clone.get_results()
        parameters = clone.get_parameters()
        if span.first > 0:
            parameters = []
            for port, shape in zip(
                self._ports[span.first - 1][1:], self._shapes[span.first - 1], strict=True
            ):
                source = results[port].input_value(0)
                parameter = opset.parameter([-1, *shape[1:]], openvino.Type.f32)
                for target in source.get_target_inputs():
                    target.replace_source_output(parameter.output(0))
                parameters.append(parameter)
        logits, *features = self._ports[span.last]
        wanted = [logits, *features] if span.last + 1 < len(self._ports) else [logits]
        model = openvino.Model([results[port] for port in wanted], parameters, f"span-{span}")
        model.reshape({port: [images, *port.partial_shape[1:]] for port in model.inputs})
        return model


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
    ports: list[list[int]] = []
    shapes: list[list[torch.Size]] = []
    with torch.inference_mode():
        features: Features = (torch.zeros(1, 3, spec.height, spec.width),)
        used = 0
        for block in trace.net.blocks:
            features = block(features)
            ports.append(list(range(used, used + 1 + len(features))))
            shapes.append([x.shape for x in features])
            used += 1 + len(features)
    return SpanGraphs(model, ports, shapes)
