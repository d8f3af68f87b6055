import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nmsim.arch.document import (
    MAX_ANCHORS,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    Document,
    Place,
    dotted,
    nearest_key,
    parse_document,
    parse_scalar,
    read_document,
)
from nmsim.errors import InputError


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_document(text, "a.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_values_have_the_types_that_yaml_1_2_gives_them() -> None:
    text = (
        "a: 1\nb: -2.5\nc: 1e9\nd: 2:4\ne: yes\nf: true\ng:\nh: ~\ni: '7'\nj: 0x1F\nk: 2001-99-99\nl: [1, x]\nm: {n: .5}\no: 0o17\np: 1_000"
    )
    assert parse_document(text, "a.yaml").data == {
        "a": 1, "b": -2.5, "c": 1e9, "d": "2:4", "e": "yes", "f": True, "g": None, "h": None, "i": "7", "j": 31, "k": "2001-99-99",
        "l": [1, "x"], "m": {"n": 0.5}, "o": 15, "p": "1_000",
    }  # fmt: skip


def test_every_value_knows_its_line() -> None:
    document = parse_document("a: 1\n\n# comment\nb:\n  - x\n  - {c: 2,\n     d: 3}\n", "a.yaml")
    assert document.place(("a",)) == Place("a.yaml", 1)
    assert document.place(("b",)) == Place("a.yaml", 4)
    assert document.place(("b", 0)) == Place("a.yaml", 5)
    assert document.place(("b", 1, "d")) == Place("a.yaml", 7)
    assert document.place(("b", 1, "absent", 4)) == Place("a.yaml", 6)  # the nearest thing that was written
    assert document.place(("absent",)) == Place("a.yaml", 1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a:\n\t- b", "a.yaml:2: a tab is not allowed as indentation; indent with spaces"),
        ("a: 1\nb: 2\na: 3", "a.yaml:3: the key 'a' is given twice; first on line 1"),
        ("a:\n  b: 1\n  b: 1", "a.yaml:3: a: the key 'b' is given twice; first on line 2"),
        ("a: !!int 3", "a.yaml:1: a: YAML tags are not accepted; remove 'tag:yaml.org,2002:int'"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "a.yaml:1: a: YAML tags are not accepted; remove 'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
        ("!x k: 1", "a.yaml:1: a key must be plain text; put the key in quotes"),
        ("%YAML 1.1\n---\na: 2:4", "a.yaml:2: YAML directives are not accepted; remove the line that starts with %"),
        ("? [1]\n: 2", "a.yaml:1: a key must be plain text; put the key in quotes"),
        ("4: 2", "a.yaml:1: a key must be plain text; put the key in quotes"),
        ("a:\n  true: 2", "a.yaml:2: a: a key must be plain text; put the key in quotes"),
        ("b: &x {a: 1}\nc:\n  <<: *x", "a.yaml:3: c: merge keys (<<) are not accepted; write the values out, or use `extends`"),
        ("a: &a [*a]", "a.yaml:1: a.0: the alias 'a' stands for nothing written before it; write the value out"),
        ("a: .nan", "a.yaml:1: a: must be a finite number; .nan is not one"),
        ("a: [1, -.inf]", "a.yaml:1: a.1: must be a finite number; -.inf is not one"),
        ("a: 1e999", "a.yaml:1: a: must be a finite number; check the exponent"),
        ('a: "\\ud800"', "a.yaml:1: a: is not valid Unicode text; remove the \\u escape"),
        ("- 1", "a.yaml:1: must be a mapping of keys to values; start with `key: value` lines"),
        ("", "a.yaml:1: must be a mapping of keys to values; start with `key: value` lines"),
        ("just text", "a.yaml:1: must be a mapping of keys to values; start with `key: value` lines"),
        ("a: 1\n---\nb: 1", "a.yaml:2: a second document starts here; keep one document in a file"),
        ("a: 1\nb: \x00", "a.yaml:2: is not well-formed YAML: the character U+0000 is not allowed; check indentation, brackets and quotes"),
        (
            "a: 1\nb: [1",
            "a.yaml:2: is not well-formed YAML: expected ',' or ']', but got '<stream end>'; check indentation, brackets and quotes",
        ),
    ],
)
def test_what_a_configuration_has_no_use_for_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    assert refusal(text) == sentence


def test_nesting_is_accepted_up_to_the_limit_and_refused_beyond_it() -> None:
    def nested(levels: int) -> str:
        return "a: " + "[" * (levels - 1) + "1" + "]" * (levels - 1)

    parse_document(nested(MAX_DEPTH), "a.yaml")
    assert f"is nested deeper than {MAX_DEPTH} levels" in refusal(nested(MAX_DEPTH + 1))
    assert f"is nested deeper than {MAX_DEPTH} levels" in refusal("a: " + "[" * 100_000)
    assert f"is nested deeper than {MAX_DEPTH} levels" in refusal("a: " + "{b: " * 10_000)


def test_a_few_anchors_are_copies_that_know_their_own_line() -> None:
    document = parse_document("a: &x {n: [1]}\nb: *x\n", "a.yaml")
    assert document.data["b"] == {"n": [1]}
    assert document.data["b"] is not document.data["a"]
    assert document.place(("b", "n", 0)) == Place("a.yaml", 2)
    many = "".join(f"k{i}: &a{i} {i}\n" for i in range(MAX_ANCHORS + 1))
    assert f"more than {MAX_ANCHORS} anchors" in refusal(many)


def test_an_alias_bomb_is_refused_by_what_it_would_expand_to() -> None:
    bomb = "k0: &a0 [" + "x," * 30 + "]\n" + "".join(f"k{i}: &a{i} [" + f"*a{i - 1}," * 30 + "]\n" for i in range(1, 9))
    assert f"holds more than {MAX_VALUES:,} values once aliases are expanded" in refusal(bomb)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "!" * 5000,
        "{k: " + "x" * 5000 + ": 1}",
        "b" * 900 + ": 1\n" + "b" * 900 + ": 2",
        "a: *" + "z" * 5000,
        "'k " + "y" * 900 + "': .nan",
    ],
)
def test_a_sentence_stays_short_whatever_the_file_holds(text: str) -> None:
    assert len(refusal(text)) < 400


def test_numbers_too_long_to_be_numbers_are_refused() -> None:
    assert "a whole number of more than 20 digits" in refusal("a: " + "9" * 5000)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", b"a: 1\nb: \xc3\x28\n", "a: 1".encode("utf-16")])
def test_binary_junk_is_not_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "junk.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"junk\.yaml:\d: is not UTF-8 text; save it as UTF-8 YAML"):
        read_document(path)


def test_a_byte_order_mark_and_windows_line_ends_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    document = read_document(path)
    assert document.data == {"a": 1, "b": 2}
    assert document.place(("b",)).line == 2


def test_files_that_are_not_there_or_not_files_or_too_big_are_refused(tmp_path: Path) -> None:
    big = tmp_path / "big.yaml"
    big.write_text("#" * (MAX_BYTES + 1))
    for path, problem in [
        (tmp_path / "none.yaml", "no such file; check the path"),
        (tmp_path, "is a directory; name a YAML file"),
        (big, "is larger than 1,000,000 bytes; this is not a configuration file"),
    ]:
        with pytest.raises(InputError) as caught:
            read_document(path)
        assert str(caught.value) == f"{path}: {problem}"
    with pytest.raises(InputError, match="cannot be read"):
        read_document("nul\0.yaml")
    with pytest.raises(InputError, match="is larger than"):
        read_document("/dev/zero")
    with pytest.raises(InputError, match="cannot be read"):
        read_document("x" * 5000)


def test_a_file_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "full.yaml"
    path.write_text("a: 1\n" + "#" * (MAX_BYTES - 5))
    assert read_document(path).data == {"a": 1}


@pytest.mark.parametrize(
    ("text", "value"), [("144", 144), ("2:4", "2:4"), ("1.5", 1.5), ("'7'", "7"), ("true", True), ("", None), ("  ", None), ("a b", "a b")]
)
def test_an_override_value_is_one_yaml_scalar(text: str, value: object) -> None:
    assert parse_scalar(text, "--set x=") == value


@pytest.mark.parametrize("text", ["[1, 2]", "{a: 1}", "a: b", "- 1", "1\n---\n2", "{", "!!int 3", ".inf", "*a"])
def test_anything_else_in_an_override_is_refused_and_named(text: str) -> None:
    with pytest.raises(InputError, match=r"^--set x: "):
        parse_scalar(text, "--set x")


def test_odd_keys_are_quoted_in_a_path_and_never_break_the_line() -> None:
    assert dotted(("kernels", "tiles", 0, "stages")) == "kernels.tiles.0.stages"
    assert dotted(("a b", "*", "x\n")) == "'a b'.*.'x\\n'"


def test_advice_names_the_nearest_key_or_all_of_them() -> None:
    assert nearest_key("cout", ["count", "max_warps"]) == "did you mean 'count'?"
    assert nearest_key("zzz", ["count", "max_warps"]) == "known keys: count, max_warps"
    assert nearest_key("zzz", []) == "remove it"


def leaves(data: Any) -> list[Any]:
    if isinstance(data, dict):
        return [leaf for key, value in data.items() for leaf in (key, *leaves(value))]
    if isinstance(data, list):
        return [leaf for value in data for leaf in leaves(value)]
    return [data]


YAML_WORDS = st.sampled_from(
    [
        "a",
        "b",
        ": ",
        "- ",
        "\n",
        "  ",
        "\t",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&x ",
        "*x",
        "!",
        "!!",
        "%",
        "---\n",
        "...\n",
        "|\n",
        ">-\n",
        "'",
        '"',
        "#",
        "? ",
        "<<",
        "1",
        "0x",
        "0o",
        "_",
        ".",
        "e9",
        ".inf",
        "\\u",
        "\\x",
        "~",
        "@",
        "`",
        "=",
        "\r",
        "\x85",
        "\ufeff",
        "\u2028",
        "é",
        "\x00",
    ]
)


@given(st.one_of(st.text(max_size=80), st.lists(YAML_WORDS, max_size=40).map("".join)))
@example('"\\UFFFFFFFF"')
@example("a: 0x_")
@example("a: =")
@example("? ")
@example("%YAML 1.99999999999999999999\n---\n")
def test_any_text_is_a_document_of_plain_finite_values_or_an_input_error(text: str) -> None:
    try:
        document = parse_document(text, "fuzz.yaml")
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert isinstance(document, Document)
    for leaf in leaves(document.data):
        assert leaf is None or type(leaf) in (str, int, float, bool)
        assert not isinstance(leaf, float) or math.isfinite(leaf)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_document_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    try:
        read_document(path)
    except InputError as error:
        assert str(error).startswith(str(path))
