"""What is written of a validation: every row once, in the CSV, on the page and in the figures."""

import csv
from pathlib import Path
from typing import Any

import pytest

from nmsim.report.validation.figures import FIGURES, draw_figures
from nmsim.report.validation.page import write_page


def row(name: str, quantity: str, unit: str, published: float, simulated: float, *tags: str, fitted: bool = False) -> dict[str, Any]:
    return {
        "row": name,
        "quantity": quantity,
        "unit": unit,
        "published": published,
        "simulated": simulated,
        "error_percent": 100 * (simulated / published - 1),
        "standing": "fitted" if fitted else "counted",
        "fitted_to": ["energy.mac_pj"] if fitted else [],
        "bars": [] if fitted else ["a | bar"],
        "tags": list(tags),
        "note": "",
        "source": "a paper, table 1",
        "status": "read in source",
    }


@pytest.fixture
def validation() -> dict[str, Any]:
    gemm = [
        row(f"qwen/m{m}", quantity, "x" if quantity == "speed-up" else "us", value, 1.1 * value, "qwen", fitted=m == 128)
        for m in (64, 128, 4096)
        for quantity, value in (("dense time", m / 2), ("2:4 time", m / 3), ("speed-up", 1.5))
    ]
    memory = [
        row(f"some/{size}kB", quantity, unit, 100.0 + size, 110.0 + size, "curve")
        for quantity, unit in (("latency", "cycles"), ("bandwidth", "GB/s"))
        for size in (1, 64, 4096)
    ]
    verdict = {
        "name": "a bar",
        "passed": False,
        "value": 10.04,
        "limit": 8.0,
        "rows": 6,
        "statistic": "",
        "why": "",
        "evidence": "worst: x",
    }
    series = [
        {"quantity": quantity, "points": [[1024.0, value], [2048.0, value]]}
        for quantity, value in (("dense time", 600.0), ("2:4 time", 400.0), ("speed-up", 1.5))
    ]
    suites = [
        {
            "suite": name,
            "title": name,
            "passed": False,
            "verdicts": [verdict],
            "rows": rows,
            "left_out": ["large: too large"],
            "series": series,
        }
        for name, rows in (("gemm", gemm), ("memory", memory))
    ]
    fitted = [{"row": "qwen/m128", "arch": "ampere.yaml", "constant": "energy.mac_pj", "publication": "SlideSparse", "how": "by hand"}]
    return {"command": "nmsim validate", "model_version": "1", "passed": False, "suites": suites, "fitted": fitted}


def test_every_row_is_in_the_csv_with_its_source(validation: dict[str, Any], tmp_path: Path) -> None:
    _, rows = write_page(validation, tmp_path)
    with rows.open(newline="") as stream:
        read = list(csv.DictReader(stream))
    expected = [(suite["suite"], one["row"], one["quantity"]) for suite in validation["suites"] for one in suite["rows"]]
    assert [(one["suite"], one["row"], one["quantity"]) for one in read] == expected
    assert {one["source"] for one in read} == {"a paper, table 1"}


def test_the_page_has_each_bar_each_fit_and_each_row_but_the_points_of_curves(validation: dict[str, Any], tmp_path: Path) -> None:
    page, _ = write_page(validation, tmp_path)
    text = page.read_text()
    assert text.count("**missed**") == 2
    assert "| gemm | a bar | 10.0 | 8 | 6 | **missed** | worst: x |" in text
    assert "| `energy.mac_pj` | ampere.yaml | qwen/m128 | by hand |" in text
    assert text.count("\n| qwen/m") == 9
    assert "kB" not in text
    predicted, fitted = text.index("Predicted:"), text.index("Fitted or taken")
    assert predicted < text.index("| qwen/m4096 | dense time") < fitted < text.index("| qwen/m128 | dense time")


def test_a_cell_cannot_break_its_table(validation: dict[str, Any], tmp_path: Path) -> None:
    validation["suites"][0]["rows"][0]["note"] = "a | b"
    text = write_page(validation, tmp_path)[0].read_text()
    assert "a \\| b" in text


def test_the_same_data_give_the_same_figures(validation: dict[str, Any], tmp_path: Path) -> None:
    files = {}
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        files[name] = draw_figures(validation, tmp_path / name)
    assert [path.stem for path in files["first"]] == list(FIGURES)
    for first, second in zip(files["first"], files["second"], strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_only_figures_of_suites_that_were_run_are_drawn(validation: dict[str, Any], tmp_path: Path) -> None:
    validation["suites"] = validation["suites"][1:]
    assert [path.name for path in draw_figures(validation, tmp_path)] == ["memory.svg"]
