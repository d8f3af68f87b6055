"""`nmsim train` as a user meets it: what it writes, that it repeats, and what it says when it can't."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import util

import pytest
import typer
from typer.testing import CliRunner

import nmsim.training
from nmsim.cli.train import train
from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.loop import Run
from nmsim.training.loop import train as train_model
from nmsim.training.options import TrainOptions
from nmsim.workload.store import read_trace, read_weights

SMALL = ["resnet", "--recipe", "sr-ste", "--width", "16", "--layers", "1", "--batch", "16", "--steps", "3", "--threads", "1"]


def run(*arguments):
    app = typer.Typer()
    app.command()(train)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_command_trains_writes_a_trace_and_says_what_it_reached(tmp_path):
    folder = tmp_path / "small.nmtrace"
    summary = json.loads(run(*SMALL, "--trace", folder, "--weights", "--json").stdout)
    trace = read_trace(folder)
    assert trace.provenance.kind == "trained"
    assert (trace.provenance.step, trace.provenance.accuracy) == (3, summary["held_out_accuracy"])
    assert trace.provenance.hyper_parameters["decay"] == 2e-4
    assert "sha256" in trace.provenance.dataset
    assert set(read_weights(folder)) == set(trace.provenance.hyper_parameters["pruned"])
    assert summary["flip_rate"] > 0


def test_the_command_in_the_trace_makes_the_same_trace_again(tmp_path):
    run(*SMALL, "--recipe-option", "decay=0.001", "--trace", tmp_path / "first" / "small.nmtrace")
    first = read_trace(tmp_path / "first" / "small.nmtrace")
    words = first.provenance.command.split()
    assert words[:2] == ["nmsim", "train"]
    folder = tmp_path / "second" / words[-1]
    run(*words[2:-1], folder)
    for name in ("manifest.json", "masks.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "first" / "small.nmtrace" / name).read_bytes()


def test_training_learns_and_masks_settle():
    run_ = Run(TrainOptions("resnet", "sr-ste", NMPattern(2, 4), steps=40, batch=32, sizes={"width": 16, "layers": 1}, threads=1))
    reports = [run_.step() for _ in range(40)]
    assert reports[0].flip_rate == 0
    assert all(report.flip_rate > 0 for report in reports[1:10])
    early, late = (sum(report.flip_rate for report in part) for part in (reports[1:11], reports[-10:]))
    assert late < early / 2
    assert sum(report.loss for report in reports[-5:]) < sum(report.loss for report in reports[:5]) / 3
    assert run_.held_out_accuracy() > 0.8


def test_dense_training_has_neither_masks_nor_passes(tmp_path):
    options = TrainOptions("gpt", "dense", NMPattern(2, 4), steps=2, batch=2, threads=1, sizes={"width": 32, "layers": 1, "context": 16})
    trace = train_model(options, tmp_path / "dense.nmtrace")
    assert (dict(trace.masks), trace.passes, trace.own_density) == ({}, (), None)
    assert trace.provenance.hyper_parameters["pattern"] is None


def test_a_lost_loss_ends_the_run_with_a_sentence():
    run_ = Run(TrainOptions("resnet", "dense", NMPattern(2, 4), steps=50, learning_rate=1e30, batch=8, sizes={"width": 8, "layers": 1}))
    with pytest.raises(InputError, match="the loss is not a number any more; lower --lr"):
        [run_.step() for _ in range(50)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("resnet", "--trace", "x.trace"), "a trace is a folder NAME.nmtrace"),
        (("resnet", "--trace", "x.nmtrace", "--pattern", "5:4"), "an N:M pattern keeps"),
        (("resnet", "--trace", "x.nmtrace", "--steps", "0"), "--steps: must be at least 1, got 0"),
        (("resnet", "--trace", "x.nmtrace", "--warmup", "1"), "the warm-up is a share of the steps"),
        (("resnet", "--trace", "x.nmtrace", "--lr", "-1"), "--lr: must be above 0"),
        (("resnet", "--trace", "x.nmtrace", "--recipe-option", "decay"), "--recipe-option: is KEY=VALUE, got 'decay'"),
        (("resnet", "--trace", "x.nmtrace", "--tile-wise-least-share", "1"), r"what each layer keeps is a share in \[0, 1\), got 1.0"),
        (("resnet", "--trace", "x.nmtrace", "--tile-wise-density", "2"), "a density is a share between 0 and 1, got '2'"),
        (("resnet", "--trace", "x.nmtrace", "--data", "pydoc"), "the model reads images, got 'pydoc'; choose digits"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_trains(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        run(*arguments)


def test_without_torch_there_is_one_sentence_with_the_command_that_installs_it(monkeypatch):
    real = util.find_spec
    monkeypatch.setattr(nmsim.training, "find_spec", lambda name: None if name == "torch" else real(name))
    with pytest.raises(InputError, match=r"training needs torch; install with: pip install 'nmsim\[train\]'"):
        _ = nmsim.training.record
    with pytest.raises(InputError, match="training needs torch"):
        run("resnet", "--trace", "x.nmtrace")


def test_neither_the_package_nor_the_command_imports_torch_by_itself():
    program = "import sys, nmsim.training, nmsim.cli.train; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
