"""Labels and selectors: the grammar, Kubernetes' semantics, and every way to write one wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.errors import InvalidInput
from executor.protocol.labels import MAX_REQUIREMENTS, MAX_SELECTOR_CHARS, MAX_VALUES, Label, Selector, label_set

KEYS = st.from_regex(r"[a-z0-9][a-z0-9._/-]{0,62}", fullmatch=True)
VALUES = st.from_regex(r"[A-Za-z0-9._-]{0,63}", fullmatch=True)
CARRIED = label_set(["site=camera", "site=harbour", "cores=16", "gpu=", "zone=eu-1", "load=-3"])


@given(KEYS, VALUES)
def test_every_label_of_the_grammar_is_read_back_as_it_was_written(key, value):
    assert str(Label.parse(f"{key}={value}")) == f"{key}={value}"


@pytest.mark.parametrize(
    "word",
    [
        "",
        "=",
        "=x",
        "site",
        "Site=a",
        "-a=b",
        "a=b c",
        "a=b=c",
        "a=é",
        "a=" + "x" * 64,
        "a" * 64 + "=b",
        "a=b\n",
        "a =b",
    ],
)
def test_a_word_that_breaks_the_grammar_is_no_label(word):
    with pytest.raises(InvalidInput, match="label"):
        Label.parse(word)


#: selector -> whether a node with CARRIED matches
SELECTORS = {
    "": True,
    "  ": True,
    "site=camera": True,
    "site==harbour": True,
    "site=cellar": False,
    "site!=camera": False,
    "site!=cellar": True,
    "nothing!=x": True,
    "site in (camera)": True,
    "site in (cellar,camera)": True,
    "site in (cellar)": False,
    "nothing in (x)": False,
    "site notin (cellar)": True,
    "site notin (camera,cellar)": False,
    "nothing notin (x)": True,
    "site": True,
    "nothing": False,
    "!nothing": True,
    "!site": False,
    "gpu=": True,
    "gpu!=": False,
    "cores>8": True,
    "cores>16": False,
    "cores<17": True,
    "cores<16": False,
    "load<0": True,
    "load>-4": True,
    "zone>1": False,
    "nothing>1": False,
    "nothing<1": False,
    "site=camera,cores>8,!nothing": True,
    "site=camera,cores>64": False,
    " site = camera , cores > 8 ": True,
}


@pytest.mark.parametrize("text", SELECTORS)
def test_a_selector_means_what_it_means_in_kubernetes(text):
    assert Selector.parse(text).matches(CARRIED) is SELECTORS[text]


#: what is wrong -> selector
WRONG = {
    "is longer": "a" * (MAX_SELECTOR_CHARS + 1),
    "more than 32 requirements": ",".join(["a"] * (MAX_REQUIREMENTS + 1)),
    "more than 32 values": f"a in ({','.join(['x'] * (MAX_VALUES + 1))})",
    "not understood from": "a=b;c=d",
    "no comma between": "a=b c=d",
    "ends too early": "a in (x",
    "parentheses": "a in x",
    "commas between values": "a in (x y)",
    "not an integer": "a>x",
    "a label key should stand": "A=b",
    "a label value should stand": "a=!",
    "an unknown operator": "a ( b",
}


@pytest.mark.parametrize("problem", WRONG)
def test_a_wrong_selector_says_where_it_stops_making_sense(problem):
    with pytest.raises(InvalidInput, match=problem):
        Selector.parse(WRONG[problem])


@pytest.mark.parametrize(
    "text",
    ["a=b,", ",a", "!", "a in", "a in (", "a in ()", "a>", "a!", "a in (x,)", "(", f"a>{10**20}", "a==="],
)
def test_a_selector_that_is_cut_is_refused(text):
    with pytest.raises(InvalidInput):
        Selector.parse(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_by_name(text):
    field = None
    try:
        selector = Selector.parse(text)
    except InvalidInput as exc:
        field = exc.field
    else:
        assert Selector.parse(str(selector)) == selector
    assert field in (None, "selector")


@given(KEYS, VALUES)
def test_a_pinned_word_is_required_and_repeated(key, value):
    for text in (f"{key}={value}", f"{key} in ({value})") if value else (f"{key}={value}",):
        selector = Selector.parse(text)
        assert selector.required_words() == (f"{key}={value}",)
        assert selector.repeats(Label(key, value))
        assert not selector.matches({})


@pytest.mark.parametrize("text", ["", "a!=b", "a in (b,c)", "a", "!a", "a>1", "a notin (b)"])
def test_what_leaves_a_choice_does_not_repeat_a_label(text):
    selector = Selector.parse(text)

    assert selector.required_words() == ()
    assert not selector.repeats(Label("a", "b"))


def test_the_requirements_that_are_not_met_are_named_as_they_were_written():
    selector = Selector.parse("site=cellar,cores>64,!gpu,zone notin (eu-1),nothing,cores in (1,2)")

    assert [str(r) for r in selector.unmet(CARRIED)] == [
        "site=cellar",
        "cores>64",
        "!gpu",
        "zone notin (eu-1)",
        "nothing",
        "cores in (1,2)",
    ]


def test_a_key_may_carry_several_values():
    assert CARRIED["site"] == frozenset({"camera", "harbour"})
