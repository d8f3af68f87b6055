"""The recorder on models of the transformers library: FLOPs against a hand count and torch's counter, and training from a config."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import transformers
import typer
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import nmsim.training
from nmsim.cli.train import train
from nmsim.errors import InputError
from nmsim.training.models import model_config, model_kind
from nmsim.training.recorder.flops import gemm_flops
from nmsim.workload.legality import usable_structure
from nmsim.workload.store import read_trace
from nmsim.workload.validate import trace_findings

BATCH, CONTEXT, VOCABULARY = 2, 16, 100
WIDTH, INNER, LAYERS, HEADS = 32, 64, 2, 4
TOKENS = BATCH * CONTEXT


def text():
    codes = torch.randint(VOCABULARY, (BATCH, CONTEXT))
    return {"input_ids": codes, "labels": codes}


def images(size):
    return {"pixel_values": torch.randn(BATCH, 3, size, size), "labels": torch.randint(2, (BATCH,))}


def encoder_layers(tokens, positions, kv_width=WIDTH, feed_forward=2 * INNER):
    """MACs of one product of each kind in LAYERS transformer layers: (with a weight, attention). Attention: scores and context."""
    weights = tokens * WIDTH * (2 * WIDTH + 2 * kv_width + feed_forward)
    attention = 2 * BATCH * positions * positions * WIDTH
    return LAYERS * weights, LAYERS * attention


def bert():
    """Four projections and two feed-forward layers a layer; the head transforms, and its decoder is tied to the embedding."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    model = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=VOCABULARY, **sizes))
    weights, attention = encoder_layers(TOKENS, CONTEXT)
    return model, text(), 3 * (weights + attention + TOKENS * WIDTH * (WIDTH + VOCABULARY))


def gpt2():
    """The inner width is four times the width; `lm_head` is tied to the embedding."""
    config = transformers.GPT2Config(n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0)
    weights, attention = encoder_layers(TOKENS, CONTEXT, feed_forward=8 * WIDTH)
    return transformers.GPT2LMHeadModel(config), text(), 3 * (weights + attention + TOKENS * WIDTH * VOCABULARY)


def llama():
    """Grouped keys and values (half as wide), a gated feed-forward of three matrices."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    config = transformers.LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=HEADS // 2, **sizes)
    weights, attention = encoder_layers(TOKENS, CONTEXT, kv_width=WIDTH // 2, feed_forward=3 * INNER)
    return transformers.LlamaForCausalLM(config), text(), 3 * (weights + attention + TOKENS * WIDTH * VOCABULARY)


def vit():
    """16 patches and a class token; patches of pixels need no backward_data; the head reads the class token alone."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    config = transformers.ViTConfig(image_size=16, patch_size=4, **sizes)
    weights, attention = encoder_layers(BATCH * 17, 17)
    patches = BATCH * 16 * WIDTH * 3 * 4 * 4
    return transformers.ViTForImageClassification(config), images(16), 3 * (weights + attention + BATCH * WIDTH * 2) + 2 * patches


def resnet():
    """32 x 32 images: a 7 x 7 stem with stride 2 and a pooling leave 8 x 8 pixels; one bottleneck of width 16, one of 32 at stride 2."""
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], layer_type="bottleneck")
    stem = 16 * 16 * 8 * 3 * 49
    # A quarter of the channels inside: 1 x 1, 3 x 3, 1 x 1, and the shortcut where the width changes.
    first = 64 * (8 * 4 + 4 * 4 * 9 + 4 * 16 + 8 * 16)
    second = 64 * 16 * 8 + 16 * (8 * 8 * 9 + 8 * 32 + 16 * 32)
    return transformers.ResNetForImageClassification(config), images(32), BATCH * (3 * (first + second + 32 * 2) + 2 * stem)


def recorded(model, inputs):
    model.train()
    with FlopCounterMode(display=False) as counter, nmsim.training.record(model) as builder:
        model(**inputs).loss.backward()
    trace = builder.trace("test", kind="initialised")
    assert list(trace_findings(trace)) == []
    return trace, counter.get_total_flops()


@pytest.mark.parametrize("case", [bert, gpt2, llama, vit, resnet])
def test_flops_are_the_hand_count_and_torchs(case):
    model, inputs, macs = case()
    trace, counted = recorded(model, inputs)
    assert gemm_flops(trace) == 2 * macs == counted
    assert trace.batch == BATCH


def test_an_encoder_and_decoder_is_recorded_whole():
    config = transformers.T5Config(
        d_model=WIDTH, d_kv=8, d_ff=INNER, num_layers=LAYERS, num_heads=HEADS, vocab_size=VOCABULARY, decoder_start_token_id=0
    )
    trace, counted = recorded(transformers.T5ForConditionalGeneration(config), text())
    assert gemm_flops(trace) == counted
    # Encoder, decoder and cross attention: two products forward, four backward, in each of the layers.
    assert sum(gemm.l > 1 for gemm in trace.gemms) == 3 * LAYERS * 6


def test_depthwise_convolutions_are_counted_by_hand_where_torch_counts_their_backward_many_times():
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1])
    trace, counted = recorded(transformers.ConvNextForImageClassification(config), images(64))
    # An image of a channel is 16 x 16 after the stem of stride 4, then half as wide in each stage; 7 x 7 taps.
    macs = sum(BATCH * side * side * width * 49 for side, width in ((16, 8), (8, 16), (4, 16), (2, 16)))
    depthwise = [gemm for gemm in trace.gemms if gemm.l > 1]
    assert {gemm.k for gemm in depthwise if gemm.phase == "forward"} == {49}
    assert sum(gemm.macs for gemm in depthwise) == 3 * macs
    assert gemm_flops(trace) < counted


def test_a_mixture_of_experts_is_refused_and_not_counted_short():
    config = transformers.MixtralConfig(
        hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=HEADS, num_key_value_heads=2, intermediate_size=INNER,
        vocab_size=VOCABULARY, num_local_experts=4,
    )  # fmt: skip
    with pytest.raises(InputError, match="the recorder does not know the product _grouped_mm"):
        recorded(transformers.MixtralForCausalLM(config), text())


def test_a_tied_decoder_names_the_weight_of_its_embedding_and_gradients_accumulate():
    model, inputs, _ = bert()
    model.train()
    with nmsim.training.record(model, batch=2 * BATCH) as builder:
        for _ in range(2):
            model(**inputs).loss.backward()
    trace = builder.trace("two", kind="initialised")
    once, _ = recorded(*bert()[:2])
    assert gemm_flops(trace) == 2 * gemm_flops(once)
    decoder = [gemm.id for gemm in trace.gemms if gemm.module == "cls.predictions.decoder"]
    assert decoder[0] == "cls.predictions.decoder#0:forward"
    assert sum(name.endswith("backward_weight") for name in decoder) == 2


SMALL: dict[str, dict[str, Any]] = {
    "hf:BertConfig": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2},
    "hf:GPT2Config": {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 128},
    "hf:ViTConfig": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32},
    "hf:ResNetConfig": {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1]},
}


@pytest.mark.parametrize("model", list(SMALL))
def test_a_configuration_class_trains_under_a_recipe(model, tmp_path):
    folder = tmp_path / "hf.nmtrace"
    app = typer.Typer()
    app.command()(train)
    values = [word for key, value in SMALL[model].items() for word in ("--config", f"{key}={json.dumps(value)}")]
    arguments = [model, "--recipe", "fst", "--recipe-option", "dense_tail=0", "--steps", "1", "--batch", "2", "--threads", "1", *values]
    arguments += ["--tile-wise-density", "1/2"]
    if "image" not in "".join(SMALL[model]) and "depths" not in SMALL[model]:
        arguments += ["--context", "16"]
    result = CliRunner().invoke(app, [*arguments, "--trace", str(folder), "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    trace = read_trace(folder)
    assert set(trace.tile_wise) == {"1/2"}
    assert trace.provenance.kind == "initialised"
    assert trace.provenance.accuracy is None
    assert trace.provenance.command.startswith(f"nmsim train {model} ")
    sparse = {gemm.phase for gemm in trace.gemms for operand in (gemm.a, gemm.b) if usable_structure(gemm, operand, trace).ok}
    assert sparse == {"forward", "backward_data", "backward_weight"}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: model_kind("hf:BertModel"), "transformers has no such configuration class, got 'hf:BertModel'"),
        (lambda: model_kind("hf:SamConfig"), "neither a language model nor an image classifier"),
        (lambda: model_config("hf:BertConfig", {"width": 4}), "model hf:BertConfig has no such size, got 4; its sizes: context"),
        (lambda: model_config("gpt", {}, {"hidden_size": "4"}), "only hf: models have configuration values, got 'hidden_size'"),
        (lambda: model_kind("hf:BertConfig").build(model_config("hf:BertConfig", {}, {"depth": "4"}), 10), "BertConfig has no such value"),
    ],
)
def test_what_is_no_configuration_is_named_in_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()
