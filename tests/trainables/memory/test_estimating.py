"""The memory of any model's step is that of a real one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves
from transformers import BatchEncoding

from trainables.errors import UserError
from trainables.memory import MemoryReport, estimate
from trainables.memory.report import report_of
from trainables.memory.storage_log import StorageLog
from trainables.memory.tracking import track, track_inference

ADAMW = partial(torch.optim.AdamW, lr=1e-3)
SGD = partial(torch.optim.SGD, lr=1e-3, momentum=0.9)

#: Settings that most families of transformers share.
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
TEXT = {**SMALL, "vocab_size": 64, "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2}
IMAGE = {**SMALL, "image_size": 32, "patch_size": 8}
BOTH_WAYS = {
    **{"vocab_size": 64, "d_model": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    **{f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")},
    **{f"{side}_ffn_dim": 32 for side in ("encoder", "decoder")},
    "decoder_start_token_id": 1,
}

IDS = torch.arange(3, 19).reshape(2, 8)
MASK = (torch.arange(8) < torch.tensor([[8], [6]])).long()  # texts of different lengths
CLASSES = torch.tensor([0, 1])
TEXTS = {"input_ids": IDS, "attention_mask": MASK}
IMAGES = {"pixel_values": torch.rand(2, 3, 32, 32)}


def classified(config: Any, inputs: dict[str, Tensor]) -> tuple[Callable[[], nn.Module], dict[str, Any]]:
    for kind in (hf.AutoModelForSequenceClassification, hf.AutoModelForImageClassification):
        if type(config) in kind._model_mapping:
            return partial(kind.from_config, config), {**inputs, "labels": CLASSES}
    raise AssertionError(config)


@cache
def case(name: str) -> tuple[Callable[[], nn.Module], dict[str, Any]]:
    """Return a function that builds a small model, and a batch."""
    of_texts = {**TEXTS, "labels": IDS.clone()}
    match name:
        case "bert":
            return classified(hf.BertConfig(**TEXT), TEXTS)
        case "roberta":
            return classified(hf.RobertaConfig(**TEXT), TEXTS)
        case "distilbert":
            config = hf.DistilBertConfig(vocab_size=64, dim=16, n_layers=2, n_heads=2, hidden_dim=32)
            return classified(config, TEXTS)
        case "gpt2":  # whose output layer is its embedding
            ids = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2}
            config = hf.GPT2Config(**ids, n_embd=16, n_layer=2, n_head=2)
            return partial(hf.GPT2LMHeadModel, config), of_texts
        case "llama":
            return partial(hf.LlamaForCausalLM, hf.LlamaConfig(**TEXT, num_key_value_heads=1)), of_texts
        case "bart":  # skips layers at random
            return partial(hf.BartForConditionalGeneration, hf.BartConfig(**BOTH_WAYS)), of_texts
        case "vit":
            return classified(hf.ViTConfig(**IMAGE), IMAGES)
        case "dinov2":  # with a parameter that no step uses
            return classified(hf.Dinov2Config(**IMAGE), IMAGES)
        case "swin":
            sizes = {"image_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 8}
            return classified(hf.SwinConfig(**sizes, depths=[1, 1], num_heads=[2, 2]), IMAGES)
        case "convnext":
            return classified(hf.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2), IMAGES)
        case "resnet":
            return classified(hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]), IMAGES)
        case "clip":
            config = hf.CLIPConfig(text_config=TEXT, vision_config=IMAGE, projection_dim=8)
            return partial(hf.CLIPModel, config), {**TEXTS, **IMAGES, "return_loss": True}
        case "whisper":
            sizes = {"num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16}
            config = hf.WhisperConfig(**BOTH_WAYS, **sizes)
            sounds = {"input_features": torch.rand(2, 8, 32), "labels": IDS}
            return partial(hf.WhisperForConditionalGeneration, config), sounds
        case "wav2vec2":
            convolutions = {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2]}
            positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
            chance = {"layerdrop": 0.0, "mask_time_prob": 0.0}
            config = hf.Wav2Vec2Config(**SMALL, **convolutions, **positions, **chance)
            sounds = {"input_values": torch.rand(2, 800), "labels": CLASSES}
            return partial(hf.Wav2Vec2ForSequenceClassification, config), sounds
    raise AssertionError(name)


NAMES = (
    *("bert", "roberta", "distilbert", "gpt2", "llama", "bart", "vit", "dinov2", "swin", "convnext"),
    *("resnet", "clip", "whisper", "wav2vec2"),
)


def of_the_output(model: Any, batch: Any) -> Tensor:
    return model(**batch).loss


def tracked(
    model: nn.Module,
    batch: Any,
    loss: Callable[[Any, Any], Tensor] = of_the_output,
    optimizer: Callable[..., torch.optim.Optimizer] = ADAMW,
    precision: str = "fp32",
    batches: int = 1,
) -> MemoryReport:
    """Track the second step of an ordinary loop on real tensors."""
    model.train()
    made = optimizer([parameter for parameter in model.parameters() if parameter.requires_grad])

    def step(after_forward: Callable[[], None]) -> Tensor:
        for _ in range(batches):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                value = loss(model, batch)
            after_forward()
            value.backward()
        made.step()
        made.zero_grad()
        return value

    step(lambda: None)
    weights = [("", tensor) for tensor in (*model.parameters(), *model.buffers())]
    given = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]
    held, _ = track(weights, given, made, step, StorageLog())
    return report_of(model, held)


def small_network() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Conv2d(8, 16, 3), nn.GELU(), nn.Flatten(), nn.LazyLinear(10))


def network() -> nn.Module:
    """A convolutional network whose layers all have their shapes."""
    made = small_network()
    made(torch.rand(1, 3, 32, 32))
    return made


def cross_entropy(net: nn.Module, batch: Any) -> Tensor:
    images, labels = batch
    return F.cross_entropy(net(images), labels)


PICTURES = torch.rand(4, 3, 32, 32), torch.zeros(4, dtype=torch.long)


@pytest.mark.parametrize("name", NAMES)
def test_models_of_transformers(name) -> None:
    build, batch = case(name)
    estimated = estimate(build, batch, None, ADAMW, target="cpu", precision="bf16")
    assert estimated == tracked(build(), batch, precision="bf16")


@pytest.mark.parametrize("name", ["bert", "gpt2", "resnet", "wav2vec2"])
def test_other_optimizers_and_precisions(name) -> None:
    build, batch = case(name)
    for optimizer in (SGD, torch.optim.Adafactor):
        estimated = estimate(build, batch, of_the_output, optimizer, target="cpu", precision="fp32")
        assert estimated == tracked(build(), batch, optimizer=optimizer)


@pytest.mark.parametrize("name", ["bert", "swin"])
def test_gradient_checkpointing(name) -> None:
    build, batch = case(name)

    def checkpointed() -> nn.Module:
        model: Any = build()
        model.activation_checkpointing_enable()
        return model

    estimated = estimate(checkpointed, batch, None, SGD, target="cpu", precision="fp32")
    assert estimated == tracked(checkpointed(), batch, optimizer=SGD)
    assert estimated.total < estimate(build, batch, None, SGD, target="cpu", precision="fp32").total


def test_layers_that_may_be_skipped_are_run() -> None:
    build, batch = case("bart")
    skipping = hf.BartConfig(**BOTH_WAYS, encoder_layerdrop=0.9, decoder_layerdrop=0.9)
    dropped = estimate(lambda: hf.BartForConditionalGeneration(skipping), batch, None, SGD)
    assert dropped == estimate(build, batch, None, SGD)


def with_lora() -> nn.Module:
    adapted = LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["classifier"])
    return get_peft_model(case("bert")[0](), adapted)


def test_lora() -> None:
    batch = case("bert")[1]
    estimated = estimate(with_lora, batch, None, ADAMW, target="cpu", precision="fp32")
    real = with_lora()
    assert estimated == tracked(real, batch)
    trained = [parameter for parameter in real.parameters() if parameter.requires_grad]
    assert estimated.checkpoint == sum(parameter.nbytes for parameter in trained)
    # Two values a trained number, and a number of steps a tensor
    assert estimated.optimizer == 2 * estimated.checkpoint + 4 * len(trained)


def test_frozen_weights_in_bfloat16() -> None:
    def weights(precision: str) -> int:
        batch = case("bert")[1]
        return estimate(with_lora, batch, None, ADAMW, target="cpu", precision=precision).weights

    frozen = [p for p in with_lora().parameters() if not p.requires_grad and p.ndim > 1]
    assert weights("bf16") - weights("bf16-frozen") == sum(parameter.nbytes for parameter in frozen) / 2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolutional_network(layout) -> None:
    batch = PICTURES[0].to(memory_format=layout), PICTURES[1]
    net: Any = network().to(memory_format=layout)
    estimated = estimate(net, batch, cross_entropy, SGD, target="cpu")
    assert estimated == tracked(net, batch, cross_entropy, SGD, "bf16")


def test_gradients_of_several_batches() -> None:
    estimated = estimate(
        network(), PICTURES, cross_entropy, SGD, target="cpu", precision="fp32", gradient_accumulation=True
    )
    assert estimated == tracked(network(), PICTURES, cross_entropy, SGD, batches=2)


def test_a_forward_pass() -> None:
    build, batch = case("bert")
    model = build().eval()
    held = track_inference(
        [("", tensor) for tensor in (*model.parameters(), *model.buffers())],
        list(batch.values()),
        torch.no_grad()(lambda: model(**batch)),
        StorageLog(),
    )
    estimated = estimate(build, batch, target="cpu", precision="fp32")
    assert estimated == report_of(model, held)
    assert estimated.gradients == estimated.optimizer == 0


class Scores(nn.Module):
    """A batched product of a view that is not contiguous, for which PyTorch makes a copy of it."""

    def forward(self, tokens: Tensor) -> Tensor:
        heads = tokens.unflatten(-1, (4, -1)).transpose(1, 2)
        return heads @ torch.ones(*heads.shape[:2], heads.shape[-1], 1)


def test_a_forward_pass_includes_what_operators_are_composed_of() -> None:
    tokens = torch.empty(8, 512, 256)
    assert estimate(Scores(), tokens, target="cpu", precision="fp32").temporary >= tokens.nbytes


def test_a_model_may_be_anywhere() -> None:
    """It is the same on every device and without content, and it is left as it is."""
    build, batch = case("gpt2")
    with torch.device("meta"):
        on_meta = build()
    with FakeTensorMode():
        fake = build()
    real = build().eval()
    before = {name: tensor.clone() for name, tensor in real.state_dict().items()}
    no_content = {name: tensor.to("meta") for name, tensor in batch.items()}
    reports = [estimate(model, no_content, None, ADAMW) for model in (build, on_meta, fake, real)]
    reports.append(estimate(real, BatchEncoding(batch), None, ADAMW))
    assert all(report == reports[0] for report in reports)
    assert not real.training
    assert all(parameter.grad is None for parameter in real.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in real.state_dict().items())


def test_a_storage_counts_once() -> None:
    flat = torch.rand(6)
    net = nn.Linear(2, 2)
    net.weight, net.bias = nn.Parameter(flat[:4].view(2, 2)), nn.Parameter(flat[4:])
    assert estimate(net, INPUT, summed, SGD, target="cpu").weights == flat.nbytes


def test_a_model_larger_than_this_machine() -> None:
    config = hf.LlamaConfig(num_hidden_layers=4, hidden_size=16384, intermediate_size=65536)
    ids = torch.empty(1, 128, dtype=torch.long, device="meta")
    batch = {"input_ids": ids, "labels": ids}
    report = estimate(lambda: hf.LlamaForCausalLM(config), batch, None, ADAMW, target="cpu")
    assert report.gradients == 4 * report.trainable_parameters > 60 * 2**30
    assert report.optimizer > 2 * report.gradients


def test_on_a_gpu() -> None:
    build, batch = case("bert")
    report = estimate(build, batch, None, ADAMW, context=7)
    assert report.memory == report.reserved + 7
    assert report.reserved >= report.total

    long = torch.zeros(4, 128, dtype=torch.long)
    texts = {
        "input_ids": long,
        "attention_mask": torch.ones_like(long),
        "labels": torch.zeros(4, dtype=torch.long),
    }

    def total(**device: Any) -> int:
        wide = partial(
            hf.BertForSequenceClassification, hf.BertConfig(**{**TEXT, "max_position_embeddings": 128})
        )
        return estimate(wide, texts, None, SGD, **device).total

    # Its dropout keeps a byte an element, and its attention kernels for bfloat16 fewer tensors
    assert total(compute_capability=8.0) < total(compute_capability=7.5) < total(target="cpu")

    def update(**chosen: bool) -> MemoryReport:
        layers = nn.Sequential(*(nn.Linear(100, 100) for _ in range(8)))
        return estimate(layers, {"input": torch.rand(1, 100)}, summed, partial(ADAMW, **chosen))

    # By default all parameters are updated together, which takes temporaries for each of them
    assert update() == update(foreach=True)
    assert update().total > update(foreach=False).total >= update(fused=True).total


def summed(net: nn.Module, batch: Any) -> Tensor:
    return net(batch["input"]).sum()


class ReadsItsData(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else x


class CountsItsData(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[x[:, 0] > 0])


def uncopyable() -> nn.Module:
    net = nn.Linear(2, 2)
    net.lock = threading.Lock()
    return net


INPUT = {"input": torch.rand(3, 2)}
X = torch.rand(3, 2)
NET = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("arguments", "choices", "message"),
    [
        ((ReadsItsData(2, 2), X, lambda net, x: net(x).sum(), SGD), {}, r"test_estimating.py:\d+ depends on"),
        (
            (CountsItsData(2, 2), X, lambda net, x: net(x).sum(), SGD),
            {},
            r"test_estimating.py:\d+ depends on",
        ),
        ((NET, INPUT, None, SGD), {}, "loss: the model returns none"),
        ((NET, X, lambda net, x: net(x), SGD), {}, r"loss: .* not a tensor of shape \(3, 2\)"),
        ((NET, X, lambda net, x: 1.0, SGD), {}, r"loss: .* not 1.0"),
        ((NET, X, lambda net, x: x.sum(), SGD), {}, "loss: depends on no parameter"),
        ((NET, X, summed, SGD([nn.Parameter(X)])), {}, "optimizer: must be a function"),
        ((nn.Linear(2, 2).requires_grad_(False), INPUT, summed, SGD), {}, "no parameter trains"),
        (("bert", X), {}, "model: must be a torch.nn.Module or a function .* not str"),
        ((dict, X), {}, "model: must be a torch.nn.Module or a function .* not dict"),
        ((uncopyable(), X), {}, r"model: cannot be copied \(TypeError.*give a function that builds it"),
        ((small_network(), PICTURES[0]), {}, "model: .* lazy"),
        ((NET, torch.rand(1).expand(2**61, 2)), {}, "more than 2.63 bytes"),
        ((NET, X), {"target": "tpu"}, "unknown target 'tpu'; known: cpu, cuda"),
        ((NET, X), {"precision": "fp8"}, "unknown precision 'fp8'"),
    ],
)
def test_mistakes(arguments, choices, message) -> None:
    with pytest.raises(UserError, match=message):
        estimate(*arguments, **choices)
