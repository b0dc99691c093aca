"""MoPE: prompts of one encoder, mixed from experts with weights that the other encoder's vector decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.methods.base import FusionOutput, MethodContext, register_method
from trainables.methods.conditional import (
    PROMPT_BOUND,
    ConditionalConfig,
    Mapper,
    SequentialPipeline,
    complementary_prompts,
    static_prompts,
)
from trainables.methods.config import option
from trainables.methods.parts import expand, run_prompted
from trainables.methods.space import (
    DefaultSpace,
    SpaceContext,
    Trial,
    main_modality,
    modalities,
    suggest,
    suggest_all,
)
from trainables.parameters import Choices, Parameter, Range
from trainables.towers import ModalityInput


@dataclass(frozen=True)
class MoPEConfig(ConditionalConfig):
    """Configuration of ``mope``; the defaults are the paper's (Sec. 3.3, 3.4 and 4.1).

    Raises:
        UserError: If a value is out of range, or static, dynamic and mapped prompts are all off.
    """

    prompt_length: int = option(6, "static prompts, and prompts an expert has, a layer", low=1, other=2)
    n_experts: int = option(16, "prompt experts a layer", low=2, other=4)
    static: bool = option(True, "prompts that are the same for every sample", other=False)
    dynamic: bool = option(True, "prompts mixed from the experts for each sample", other=False)
    mapped: bool = option(True, "a prompt that the complementary vector is mapped to", other=False)
    routing: str = option(
        "dense", "mix all experts, or keep the best one", other="top1", choices=("dense", "top1")
    )
    temperature: float = option(0.1, "temperature of the routing softmax", low=0.01, other=1.0)
    routing_noise: float | None = option(
        None,
        "standard deviation of the noise on routing logits in training; none: 1 / n_experts^2",
        low=0.0,
        other=2.0,
    )
    importance_weight: float = option(
        0.01, "weight of the loss that balances the experts", low=0.0, other=0.0
    )
    importance_threshold: float = option(
        0.05, "squared coefficient of variation below which experts count as balanced", low=0.0, other=100.0
    )
    complementary_tuning: str = option(
        "prompt",
        "what trains of the complementary encoder: nothing, deep prompts, or all of it",
        other="finetune",
        choices=("frozen", "prompt", "finetune"),
    )
    complementary_prompt_length: int = option(
        4, "prompts a layer of the complementary encoder, where it is prompted", low=1, other=2
    )
    n_prompted_layers: int | None = option(
        None, "top layers of the main encoder that are prompted; none: all", low=1, other=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.static or self.dynamic or self.mapped):
            raise UserError("static=false, dynamic=false, mapped=false: at least one must be true")

    @property
    def conditional(self) -> bool:
        """Whether any prompt depends on the complementary modality."""
        return self.dynamic or self.mapped


class PromptExperts(nn.Module):
    """The experts E_1 … E_k and the router W_r of one layer (Sec. 3.3).

    Args:
        source_width: Size of the complementary vector.
        width: Hidden size D of the layer.
        config: The method's configuration.
    """

    def __init__(self, source_width: int, width: int, config: MoPEConfig) -> None:
        super().__init__()
        shape = (config.n_experts, config.prompt_length, width)
        self.experts = nn.Parameter((torch.rand(shape) * 2 - 1) * PROMPT_BOUND)
        self.router = nn.Linear(source_width, config.n_experts, bias=False)
        self.temperature = config.temperature
        self.top1 = config.routing == "top1"
        self.noise = config.n_experts**-2 if config.routing_noise is None else config.routing_noise

    def forward(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the experts for each sample.

        Args:
            vector: Complementary vectors psi_y, shape (B, source_width).

        Returns:
            The dynamic prompts P_d, shape (B, l, D), and the routing scores without noise, shape (B, k).
        """
        # Full precision also under autocast, because the temperature enlarges rounding errors
        with torch.autocast(vector.device.type, enabled=False):
            logits = self.router(vector.float()) / self.temperature
        scores = logits.softmax(dim=-1)
        routing = scores
        if self.training and self.noise:
            routing = (logits + self.noise * torch.randn_like(logits)).softmax(dim=-1)
        if self.top1:
            best, index = routing.max(dim=-1, keepdim=True)
            routing = torch.zeros_like(routing).scatter(-1, index, best)
        return (routing @ self.experts.flatten(1)).unflatten(1, self.experts.shape[1:]), scores


def importance_loss(scores: Tensor, threshold: float) -> Tensor:
    """Return how unevenly a batch uses the experts of a layer, a scalar (Eq. 5 and 6).

    CV^2 = (std(Imp) / mean(Imp))^2, where Imp sums each expert's routing scores over the batch. The loss is 0
    if CV^2 is below the threshold. Eq. 6 stops the gradient instead, which trains in the same way.

    Args:
        scores: Routing scores, shape (B, k), k at least 2.
        threshold: Threshold gamma of CV^2.
    """
    importance = scores.sum(dim=0)
    variation = importance.var() / importance.mean().square()
    return torch.where(variation < threshold, torch.zeros_like(variation), variation)


def _searched(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    main = suggest(trial, "main", modalities("main", context))
    on = Choices((False, True))
    kinds = suggest_all(trial, context, {"static": on, "dynamic": on})
    if any(kinds.values()):
        kinds["mapped"] = suggest(trial, "mapped", on)
    conditional = kinds["dynamic"] or kinds.get("mapped", True)
    asked: dict[str, Parameter] = {"n_prompted_layers": Range(1, context.depths[main])}
    if kinds["static"] or kinds["dynamic"]:
        asked["prompt_length"] = Range(1, 16, log=True)
    if kinds["dynamic"]:
        asked |= {
            "n_experts": Range(2, 16, log=True),
            "routing": Choices(("top1", "dense")),
            "temperature": Range(0.05, 1.0, log=True),
            "importance_weight": Choices((0.0, 0.001, 0.01, 0.1)),
        }
    if conditional:
        asked["complementary_tuning"] = _tunings(main, context)
    return {"main": main, **kinds, **suggest_all(trial, context, asked)}


def _tunings(main: str, context: SpaceContext) -> Choices:
    """Return the ways to tune the complementary encoder; one without layers cannot be prompted."""
    prompted = any(depth for modality, depth in context.depths.items() if modality != main)
    return Choices(("frozen", *(("prompt",) if prompted else ()), "finetune"))


def _first_points(context: SpaceContext) -> list[dict[str, Any]]:
    """Return the paper's k = 16 and k = 4 with l = 6 in all layers, then a cheap point with two layers."""
    main = main_modality(context)
    if not context.depths[main]:
        (main,) = (modality for modality in context.depths if modality != main)
    layers = context.depths[main]
    prompt = "prompt" if "prompt" in _tunings(main, context) else "frozen"
    return [
        {
            "main": main,
            "static": True,
            "dynamic": True,
            "mapped": True,
            "n_prompted_layers": prompted,
            "prompt_length": 6,
            "n_experts": experts,
            "routing": "dense",
            "temperature": 0.1,
            "importance_weight": 0.01,
            "complementary_tuning": tuning,
            "learning_rate": 1e-3,
        }
        for experts, prompted, tuning in (
            (16, layers, prompt),
            (4, layers, prompt),
            (4, min(2, layers), "frozen"),
        )
    ]


@register_method(
    "mope",
    description="prompts of one encoder mixed from experts by the other encoder's vector",
    source="Jiang et al., 2023 (MoPE), Sec. 3",
    space=DefaultSpace(
        "MoPE: direction, kinds of prompts, prompted layers, prompt length l, experts k, router, "
        "temperature, importance weight, tuning of the complementary encoder",
        _searched,
        _first_points,
    ),
)
class MoPE(SequentialPipeline):
    """Conditional prompt tuning with a mixture of prompt experts (Jiang et al., 2023, Sec. 3, Eq. 3-7).

    The complementary modality is encoded first: psi_y = pool(E_y(y)). Layer i of the frozen main encoder runs
    on [x; P_s,i; P_d,i; P_m]. The prompts' outputs are dropped after the layer. There are three kinds:

    - static prompts P_s,i: l learned vectors;
    - dynamic prompts P_d,i = sum_k r_k E_i,k: a mixture of k experts with l vectors each, weighted by the
      routing scores r = softmax(W_r,i psi_y / tau + eps) (Eq. 4), of which ``top1`` keeps only the largest
      (Eq. 7);
    - the mapped prompt P_m = f_m(psi_y): one vector; see ``Mapper``.

    outputs = W pool(x) + b. In training, the importance loss (Eq. 5 and 6) is averaged over the layers and
    added with weight 0.01. The complementary encoder is prompt-tuned, frozen or fine-tuned (Table 4). It is
    not used if there are neither dynamic nor mapped prompts (first row of Table 2).

    The paper does not state some values, which are from the released code: the weight of the importance loss,
    the initial prompts and experts, the mapper's bottleneck (half the width of psi_y, 384 for BERT), the
    number of prompts in the complementary encoder, and the standard deviation 1 / k^2 of the noise. V-MoE
    (Riquelme et al., NeurIPS 2021, Sec. 2.2), whose router Eq. 7 follows, has 1 / k. ``n_prompted_layers`` is
    an addition: nothing below the prompted layers is kept for the backward pass.

    The table gives the number of parameters for Swin-B and BERT-base with these defaults, in thousands. The
    classifier is left out because Table 1 gives one figure for three datasets.

    =======================================  =======  =======  =================
    part                                       k = 4   k = 16  P-SequentialFuse
    =======================================  =======  =======  =================
    static, 6 x 12,032 (sum of block widths)    72.2     72.2               72.2
    experts, k x 6 x 12,032                    288.8  1,155.1
    routers, 24 x 768 x k                       73.7    294.9
    mapper, 768-384-(128, 256, 512, 1024)    1,034.5  1,034.5            1,034.5
    text prompts, 12 x 4 x 768                  36.9     36.9               36.9
    sum                                      1,506.0  2,593.5            1,143.6
    Table 1                                    1.5 M    2.6 M              1.1 M
    =======================================  =======  =======  =================

    Departures from the released code, all of which follow the paper:

    - Every layer is routed. The released code does not route the first block of a stage.
    - psi_y alone decides the routing, through a trained W_r. The released code also uses the main encoder's
      mean token, through a frozen random projection.
    - Noise is drawn in training only. The released code also draws it in evaluation, which is then random.
    - Swin's vector is the mean of its tokens without the prompts.
    - The mapper has no GELU after its last layer, no dropout and no BatchNorm. In the released code, the
      statistics of the BatchNorm never change. Neither do prompts of the complementary encoder have dropout,
      which is 0.1 there.
    - A sample does not depend on the others of its batch. The released Swin block mixes the samples of a
      batch in its windows, and the figures that the paper prints over Swin contain that.
    - gamma is 0.05, not 0.1.

    Raises:
        UserError: If ``main`` is not among the modalities, if ``n_prompted_layers`` exceeds the depth of the
            main encoder, or if a complementary encoder that is to be prompted has no layers.
    """

    config_class = MoPEConfig
    elastic = (
        "n_experts",
        "prompt_length",
        "n_prompted_layers",
        "complementary_prompt_length",
        "mapper_width",
    )
    stacked = ("static", "dynamic")

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        tower = self.tower(self.main)
        if (config.n_prompted_layers or 0) > tower.depth:
            raise UserError(
                f"n_prompted_layers={config.n_prompted_layers}: must be 1 to {tower.depth}, "
                f"the depth of the {self.main} encoder"
            )
        self.start = tower.depth - (config.n_prompted_layers or tower.depth)
        widths = [tower.layer_width(index) for index in range(self.start, tower.depth)]
        self.static = static_prompts(widths if config.static else (), config.prompt_length)
        self.dynamic = nn.ModuleList()
        self.mapper: Mapper | None = None
        self.complementary_prompts: nn.Module | None = None
        if not config.conditional:
            return
        complementary = self.tower(self.complementary)
        if config.dynamic:
            self.dynamic.extend(PromptExperts(complementary.width, width, config) for width in widths)
        if config.mapped:
            self.mapper = Mapper(complementary.width, widths, config.mapper_width)
        if config.complementary_tuning == "prompt":
            self.complementary_prompts = complementary_prompts(
                complementary, config.complementary_prompt_length
            )

    @classmethod
    def used_modalities(cls, context: MethodContext, config: Any) -> tuple[str, ...]:
        """Return both modalities, or only the main one if no prompt depends on the other."""
        main, _ = cls.direction(context, config)
        return tuple(context.towers) if config.conditional else (main,)

    @classmethod
    def trained_encoders(cls, context: MethodContext, config: Any) -> frozenset[str]:
        """Return the complementary modality if it is used and fine-tuned, else none."""
        _, complementary = cls.direction(context, config)
        trains = config.conditional and config.complementary_tuning == "finetune"
        return frozenset({complementary} if trains else ())

    def untouched_layers(self) -> dict[str, int]:
        """Return the number of unprompted lower layers."""
        layers = {self.main: self.start}
        if self.complementary in self.towers:
            prompted = self.complementary_prompts is not None
            layers[self.complementary] = 0 if prompted else self.tower(self.complementary).depth
        return layers

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        tower = self.tower(self.main)
        with self.gradient(self.main):
            sequence = tower.encode(batch[self.main], self.start)
        vector = self._complementary_vector(batch) if self.config.conditional else None
        mapped = {} if self.mapper is None else self.mapper(vector)
        scores: list[Tensor] = []

        def prompts(index: int) -> Iterator[Tensor]:
            if self.static:
                yield expand(self.static[index - self.start], sequence)
            if self.dynamic:
                mixed, routing = self.dynamic[index - self.start](vector)
                scores.append(routing)
                yield mixed
            if mapped:
                yield mapped[tower.layer_width(index)]

        logits = self.head(run_prompted(tower, sequence, prompts))
        return FusionOutput(logits, self._auxiliary_loss(scores) if self.training else None)

    def _complementary_vector(self, batch: Mapping[str, ModalityInput]) -> Tensor:
        """Return the complementary vectors psi_y, shape (B, D)."""
        if self.complementary_prompts is None:
            return self.vector(batch, self.complementary)
        tower = self.tower(self.complementary)
        with self.gradient(self.complementary):
            sequence = tower.encode(batch[self.complementary], 0)
        vector: Tensor = self.complementary_prompts(tower, sequence)
        return vector

    def _auxiliary_loss(self, scores: list[Tensor]) -> Tensor | None:
        """Return the weighted importance loss of the layers' routing scores, or None if there is none."""
        if not (scores and self.config.importance_weight):
            return None
        losses = [importance_loss(layer, self.config.importance_threshold) for layer in scores]
        return self.config.importance_weight * torch.stack(losses).mean()
