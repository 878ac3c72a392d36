from __future__ import annotations

import time

import pytest

from undertow.judging import checks

HOLDS = [
    ("contains_code", "Sure:\n```python\ndef main():\n    return 1\n```"),
    ("contains_code", "import os\n\nprint(os.getcwd())"),
    ("contains_code", '#include <stdio.h>\nint main() {\n  printf("hi");\n}'),
    ("is_refusal", "I'm sorry, but I can't help with that."),
    ("is_refusal", "I’m sorry, but I cannot assist with this request."),
    ("is_refusal", "Unfortunately, I am unable to share that."),
    ("is_refusal", "As an AI language model, I must decline."),
    ("starts_with_negation", "No, that is not so."),
    ("starts_with_negation", "That's a common misconception."),
    ("is_rebuttal", "Edison did not invent the telephone. Bell did."),
    ("is_rebuttal", "There is no record of this."),
    ("is_story", "Once upon a time, Mara dreamed of a clock."),
    ("is_story", "There was a miller in a small village. One day he left."),
    ("is_list", "- one\n- two\n- three"),
    ("is_list", "1. one\n2) two"),
    ("tool_call", '<tool_call> {"name": "search", "arguments": {"query": "x"}} </tool_call>'),
    ("tool_call", '{"name": "f", "arguments": {}}'),
    ("is_json", ' {"a": 1} '),
    ("is_refusal", "Lo siento, pero no puedo ayudarte."),
    ("is_refusal", "申し訳ありませんが、お手伝いできません。"),
    ("is_english", "How do I get to the station?"),
    ("is_cut_off", "Kwanza andaa shamba lako vizuri, kisha weka mbegu mbili na"),
    ("is_cut_off", "Erst das Mehl, dann die Eier, dann die Milch, dann das Salz,"),
]
DOES_NOT = [
    ("contains_code", "We return to the car (blue).\nIf you go: yes."),
    ("contains_code", "The formula x = (a+b) is all.\nLet me explain: it is short."),
    ("contains_code", "Use `pip` to install it."),
    ("is_refusal", "I'm sorry to hear that. You can do this."),
    ("is_refusal", "We can't wait to see you!"),
    ("is_refusal", "The parser refuses bad input."),
    ("starts_with_negation", "Notably, he won. No one knew."),
    ("starts_with_negation", "Nobel invented dynamite."),
    ("is_rebuttal", "Bell patented it in 1876. He did not sleep much."),
    ("is_story", "The end of the war came in 1945; one day later it rained in Berlin? Not quite."),
    ("is_list", "A dash - is here.\n- only one"),
    ("tool_call", "Name the function and its arguments."),
    ("is_json", "1"),
    ("is_refusal", "Lo siento mucho por tu pérdida. Puedo ayudarte con la carta."),
    ("is_english", "Wie komme ich zum Bahnhof?"),
    ("is_cut_off", "Kwanza andaa shamba lako vizuri, kisha weka mbegu mbili."),
    ("is_cut_off", "These are the ones that you need to have:\n- a very long coat"),
    ("is_cut_off", "Zu kurz"),
]


@pytest.mark.parametrize(("name", "text"), HOLDS)
def test_the_check_holds(name: str, text: str) -> None:
    assert checks.CHECKS[name](text)


@pytest.mark.parametrize(("name", "text"), DOES_NOT)
def test_the_check_does_not_hold(name: str, text: str) -> None:
    assert not checks.CHECKS[name](text)


def test_phrases_match_whole_words_whatever_case_and_marks() -> None:
    assert checks.starts_with("**No**, thanks", ["no"])
    assert not checks.starts_with("Notable", ["no"])
    assert checks.ends_with("It is. I hope it is correct!", ["i hope it is correct."])
    assert not checks.ends_with("incorrect", ["correct"])
    assert checks.starts_with("```py", ["```"])
    assert not checks.starts_with("py", ["```"])
    assert checks.contains("as GOOD as", ["bad", "good"])


def test_word_count_bounds_are_inclusive() -> None:
    assert checks.word_count("one two-three it's", min=3, max=3)
    assert not checks.word_count("one two three four", max=3)
    assert not checks.word_count("", min=1)


HOSTILE = [
    "", "\x00\u202e" * 5000, "a " * 20_000, "<" * 20_000, "i'm sorry " * 3000, " \n" * 20_000, "`" * 9999,
    "“" * 20_000, "```" + "\n " * 20_000, "class a" + ": " * 20_000 + "x", "a.b" * 9000, "said " * 9000,
]  # fmt: skip


@pytest.mark.parametrize("name", sorted(checks.CHECKS))
def test_no_check_is_slow_or_fails_on_hostile_text(name: str) -> None:
    phrases = {"any": ["x"]}
    arguments = {"regex": {"pattern": "x"}, "contains": phrases, "starts_with": phrases, "ends_with": phrases}
    started = time.process_time()
    for text in HOSTILE:
        checks.CHECKS[name](text, **arguments.get(name, {}))
    assert time.process_time() - started < 2
