"""Spans on the CPU through OpenVINO: 5-7 times eager torch, bf16 where the processor is fast in it."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from model_store.nets.staged import Features, Span, StagedNet, fold_batch_norm
from model_store.preprocess import InputSpec
from service.engine.executors import Executor
from service.engine.openvino_import import TorchScriptPythonDecoder, openvino, opset

KERNELS_KEPT = 200
"""Kernels that a program keeps for the batch sizes it has met; the least recently used goes first.

OpenVINO's default is 5,000. With that, limits for every exit in batches of every size up to 32 took one model
from 442 to 1,293 MB; with 200 it was 857 MB, with 0 694 MB, and batches as on a busy server ran at 1,171,
1,088 and 1,035 images/s (2-core Xeon, one thread, exits 1 and 3). The property is not in its documentation.
"""


class OpenVinoExecutor(Executor):
    """Converts the network once, cuts each span out of that one graph, compiles spans on demand.

    One conversion costs seconds, a cut and a compilation about 0.1 s: cheaper than converting 28 spans
    apart. The batch dimension is dynamic; results do not depend on the batch an image is in, to the last bit.
    """

    def __init__(self, net: StagedNet, spec: InputSpec, threads: int) -> None:
        """Convert ``net`` for images of ``spec``.

        Args:
            net: The network; a folded copy is taken.
            spec: Input size and normalisation.
            threads: Processor threads per launch; 0 takes all cores but one.
        """
        self._core = openvino.Core()
        fast = {"BF16"} & set(self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        self._precision = "bf16" if fast else "f32"
        self._config = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or max(1, _cores() - 1),
            "CPU_RUNTIME_CACHE_CAPACITY": KERNELS_KEPT,
        }
        self._stages = net.stages
        self._graph = _convert(net, spec)
        self._requests: dict[Span, openvino.InferRequest] = {}

    @property
    def device(self) -> str:
        """``CPU bf16`` or ``CPU f32``."""
        return f"CPU {self._precision}"

    def prepare(self, span: Span) -> None:
        """Cut ``span`` out of the graph and compile it."""
        if span not in self._requests:
            compiled = self._core.compile_model(self._graph.cut(span), "CPU", self._config)
            self._requests[span] = compiled.create_infer_request()

    def run(self, span: Span, features: Features) -> tuple[Features, Tensor]:
        """See ``Executor.run``; outputs are views of the program's own buffers."""
        self.prepare(span)
        inputs = [x.contiguous().numpy() for x in features]
        results = self._requests[span].infer(inputs, share_inputs=True, share_outputs=True)
        logits, *rest = (torch.from_numpy(results[port]) for port in range(len(results)))
        return tuple(rest), logits


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


class _Graph:
    """The converted network and where each stage's logits and features are among its results."""

    def __init__(self, model: openvino.Model, ports: list[list[int]], shapes: list[list[torch.Size]]) -> None:
        self._model = model
        self._ports = ports  # per stage: the result of its logits, then those of its features
        self._shapes = shapes  # per stage: the features' shapes

    def cut(self, span: Span) -> openvino.Model:
        """A model of its own for ``span``: parameters where it begins, logits and features as results."""
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
        return openvino.Model([results[port] for port in wanted], parameters, f"span-{span}")


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


def _convert(net: StagedNet, spec: InputSpec) -> _Graph:
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
    return _Graph(model, ports, shapes)
