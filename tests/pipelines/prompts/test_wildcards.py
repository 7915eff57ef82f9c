"""Names of files, braces, seeds and combinations."""

from __future__ import annotations

from collections import Counter

import pytest

from pipelines.errors import RequestError
from pipelines.prompts.choices import unread
from pipelines.prompts.wildcards import MAX_COMBINATIONS, Wildcards


@pytest.fixture
def wildcards(tmp_path):
    def write(name, text, encoding="utf-8"):
        file = tmp_path / "wildcards" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode(encoding))

    write("colour", "red\n# a comment\n\n3::blue\n")
    write("animals/cat", "a __colour__ cat\n")
    write("animals/dog", "{big|small} dog")
    write("clothes", "${season:summer} hat\n")
    write("weather", "sun\nrain\n\\#1 fog # rare\n")
    write("accents", "\ufeffé\r\nö\r\n")
    write("broken", "caf\xe9", "latin-1")
    write("self", "x __self__")
    write("one", "__two__")
    write("two", "{a|__one__}")
    write("grow0", "x" * 100)
    for n in range(1, 9):
        write(f"grow{n}", f"__grow{n - 1}__ " * 4)
    for n in range(40):
        write(f"chain{n}", f"__chain{n + 1}__")
    (tmp_path / "secret.txt").write_text("secret")
    return Wildcards(tmp_path / "wildcards")


@pytest.mark.parametrize("text", ["a cat", "", "a (b:1.2) [c|d]", "snake_case", "} { |", "__main__", "a__b"])
def test_text_without_choices_comes_back_unchanged(wildcards, text):
    assert wildcards.expand(text, 1) == text


def test_the_seed_alone_decides(wildcards):
    text = "{a|b|c|d|e|f} __colour__ {1|2|3|4}"
    assert wildcards.expand(text, 5) == wildcards.expand(text, 5)
    assert len({wildcards.expand(text, seed) for seed in range(50)}) > 15


def test_weights_are_shares(wildcards):
    drawn = Counter(wildcards.expand("{a|b|2::c}", seed) for seed in range(4_000))
    assert {name: number / 4_000 for name, number in drawn.items()} == pytest.approx(
        {"a": 0.25, "b": 0.25, "c": 0.5}, abs=0.03)
    lines = Counter(wildcards.expand("__colour__", seed) for seed in range(4_000))
    assert {name: number / 4_000 for name, number in lines.items()} == pytest.approx(
        {"red": 0.25, "blue": 0.75}, abs=0.03)


def test_folders_nest_and_options_hold_further_choices(wildcards):
    found = {wildcards.expand("__animals/*__", seed) for seed in range(60)}
    assert found == {"a red cat", "a blue cat", "big dog", "small dog"}
    assert wildcards.names()[:3] == ("accents", "animals/cat", "animals/dog") and wildcards.has("animals/*")


def test_a_name_that_would_search_the_folders_again_and_again_is_left_as_it_is(wildcards):
    assert wildcards.expand("__**/cat__", 1) in ("a red cat", "a blue cat")
    endless = f"__{'**/' * 200}cat__"
    assert wildcards.expand(endless, 1) == endless


def test_the_prompts_own_bars_are_left_alone_outside_braces(wildcards):
    assert wildcards.expand("[x|y] {a}", 1) == "[x|y] a"


def test_combinations_are_all_of_them_in_order(wildcards):
    assert wildcards.combinations("{a|b} {1|{x|y}}") == ("a 1", "a x", "a y", "b 1", "b x", "b y")
    assert wildcards.combinations("__colour__!") == ("red!", "blue!")
    assert wildcards.combinations("plain") == ("plain",)
    assert wildcards.combinations("") == ("",)


def test_combinations_stop_at_the_limit(wildcards):
    assert len(wildcards.combinations("{a|b}" * 600, 50)) == 50
    assert len(wildcards.combinations("{a|b}" * 20)) == MAX_COMBINATIONS


@pytest.mark.parametrize(("text", "chain"), [("__self__", "self -> self"), ("__one__", "one -> two -> one")])
def test_a_wildcard_that_names_itself_is_refused_with_the_chain(wildcards, text, chain):
    with pytest.raises(RequestError, match=f"names itself .{chain}") as caught:
        for seed in range(10):  # the loop may lie behind one of the options
            wildcards.expand(text, seed)
    assert caught.value.field == "prompt"
    with pytest.raises(RequestError, match="names itself"):
        wildcards.combinations(text)


def test_wildcards_that_grow_without_end_are_refused(wildcards):
    with pytest.raises(RequestError, match="longer than 4000 characters"):
        wildcards.expand("__grow8__", 1)
    with pytest.raises(RequestError, match="longer than 4000 characters"):
        wildcards.combinations("__grow8__")
    with pytest.raises(RequestError, match="more than 16 deep"):
        wildcards.expand("__chain0__", 1)


def test_an_unknown_name_stays_and_is_told(wildcards):
    assert wildcards.expand("__nothing__ {a|a}", 1) == "__nothing__ a"
    assert wildcards.has("colour") and not wildcards.has("nothing")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "animals/../../secret", "..", ". ./secret"])
def test_no_name_leads_out_of_the_folder(wildcards, name):
    assert wildcards.expand(f"__{name}__ {{a}}", 1) == f"__{name}__ a"


def test_files_of_any_encoding_are_read(wildcards):
    assert wildcards.combinations("__accents__") == ("é", "ö")
    assert wildcards.expand("__broken__", 1).startswith("caf")


@pytest.mark.parametrize("text", ["{" * 4_000, "}" * 4_000, "{" * 2_000 + "a" + "}" * 2_000, "{a" * 1_300, "__" * 2_000,
                                  "{|}" * 900])
def test_hostile_braces_never_raise(wildcards, text):
    assert isinstance(wildcards.expand(text, 1), str)
    assert wildcards.combinations(text, 3)


def test_no_folder_is_no_wildcards(tmp_path):
    assert Wildcards(tmp_path / "none").names() == ()
    assert Wildcards(tmp_path / "none").expand("__x__ {a}", 1) == "__x__ a"


@pytest.mark.parametrize(("text", "drawn"), [
    ("{2$$a|b|c}", {"a, b", "a, c", "b, a", "b, c", "c, a", "c, b"}), ("{1-2$$a|b}", {"a", "b", "a, b", "b, a"}),
    ("{2$$ and $$a|b}", {"a and b", "b and a"}), ("{-2$$a|b}", {"a", "b", "a, b", "b, a"}),
    ("{1-$$ $$a|b}", {"a", "b", "a b", "b a"}), ("{9$$a|b}", {"a, b", "b, a"}), ("{0-1$$a}", {"", "a"}),
    ("{2-1$$|$$a|b}", {"a", "b", "a|b", "b|a"}), ("{2$$__colour__}", {"red, blue", "blue, red"}),
    ("{2$$;$$__colour__|__nothing__}", {f"{one};__nothing__" for one in ("red", "blue")}
     | {f"__nothing__;{one}" for one in ("red", "blue")}),
    ("{ 2 $$a|{b|c}}", {"a, b", "a, c", "b, a", "c, a"}),
    ("${x=red} a ${x} cat, ${x}", {"a red cat, red"}), ("${x=!{a|b}}${x}${x}", {"aa", "bb"}),
    ("${x={a|b}}${x}${x}", {"aa", "ab", "ba", "bb"}), ("${x} ${x=a}", {"a"}), ("${x=a}{${x}|b}", {"a", "b"}),
    ("${x:none} ${y:{1|2}}", {"none 1", "none 2"}), ("${x=a}${x?=b}${y?=c}${x}${y}", {"ac"}),
    ("${x=!__colour__}${y=${x}s}${y}", {"reds", "blues"}), ("${x=a, b|c}${x}", {"a, b|c"}),
    ("__clothes__", {"summer hat"}), ("__clothes(season=old)__", {"old hat"}),
    ("${season=new}__clothes__", {"new hat"}),
    ("__weather__", {"sun", "rain", "\\#1 fog"}), ("${ x = a }${x}", {"a"})])
def test_several_options_separators_and_variables(wildcards, text, drawn):
    assert {wildcards.expand(text, seed) for seed in range(200)} == drawn == set(wildcards.combinations(text))


def test_options_are_drawn_without_repeating_any_and_by_their_weights(wildcards):
    first = Counter(wildcards.expand("{2$$a|8::b|c}", seed)[0] for seed in range(1_000))
    assert first["b"] > 700
    assert all(len(set(wildcards.expand("{3$$ $$a|b|c|d}", seed).split())) == 3 for seed in range(50))


@pytest.mark.parametrize(("text", "pieces"), [
    ("a {red|green} cat", [("choice", "{red|green}")]), ("{2$$a}", [("choice", "{2$$a}")]),
    ("__bad__, {dark|{a|b}}", [("name", "__bad__"), ("choice", "{dark|{a|b}}")]), ("${x}", [("variable", "${x}")]),
    ("${x=a|b}, ${x}", [("variable", "${x=a|b}"), ("variable", "${x}")]), ("{@a|b} {!c|d}", [("choice", "{@a|b}"),
                                                                                     ("choice", "{!c|d}")]),
    ("{{masterpiece}}, [a|b] {x} $5 ${} ${a b} snake_case } {", [])])
def test_what_is_not_read_is_found(wildcards, text, pieces):
    assert list(unread(text)) == pieces
    left = wildcards.expand("__bad__ {@a|b} ${x} {!c|d} {a|a}", 1)
    assert left == "__bad__ {@a|b} ${x} {!c|d} a"


@pytest.mark.parametrize("text", ["${x=${x}}${x}", "${a=${b}}${b=${a}}${a}"])
def test_a_variable_that_holds_itself_is_refused(wildcards, text):
    for read in (lambda: wildcards.expand(text, 1), lambda: wildcards.combinations(text)):
        with pytest.raises(RequestError, match="names itself"):
            read()


@pytest.mark.parametrize("text", [
    "${a=}" + "".join(f"${{{name}={f'${{{before}}}' * 60}}}" for before, name in zip("abcdefg", "bcdefgh", strict=True))
    + "${h}", "".join(f"${{v{n}=!{{a|b}}}}" for n in range(60)), "${x={" * 400, "{2$$" * 900,
    "{1-9$$a|b" + "|c" * 1_500 + "}", "${" * 1_900, "{1$$ and $$" * 300 + "}" * 300])
def test_hostile_variables_and_counts_end(wildcards, text):
    for read in (lambda: wildcards.expand(text, 1), lambda: wildcards.combinations(text, 257)):
        try:
            read()
        except RequestError as error:
            assert error.field == "prompt"
    assert isinstance(unread(text), tuple)
