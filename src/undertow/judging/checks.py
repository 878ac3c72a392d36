"""Programmatic predicates over one text: they decide without a model, cheaply and always alike.

Each is a plain function ``(text, **arguments) -> bool``; a rubric names it. They see text only: nothing here
knows a data set, a plant or a model.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

_FENCE = re.compile(r"```[^\n`]*\n\s*[^\s`]")
_LONGEST_LINE = 500
"""Characters of a line that are looked at: hostile text must not make a pattern slow."""
_CODE_LINE = re.compile(
    r"""[ \t]*(?:
        (?:async\s+)?def\s+\w+\s*\(.*\)\s*(?:->.*)?: | class\s+\w+.*[:{]\s*$
      | (?:from\s+[\w.]+\s+)?import\s+[\w.*{}, ]+;?\s*$ | \#include\s*<
      | (?:public|private|static)\s+[\w<>\[\]]+\s+\w+ | (?:export\s+)?(?:async\s+)?function\s*\w*\s*\(
      | (?:const|let|var)\s+\w+\s*= | fn\s+\w+\s*\( | func\s+\w+\s*\(
      | (?:for|while|if|elif)\b.*:\s*$ | return\b.*[;()\[\]"'=]
      | (?:print|console\.log|printf|System\.out\.println)\s*\(
      | SELECT\s.+\sFROM\s | \w+(?:\.\w+)*\s*=\s*[\w.]*[(\[{"'].* | [{}]\s*;?\s*$ | </?\w+[^>]*>\s*$
    )""",
    re.VERBOSE,
)
_REFUSAL = re.compile(
    r"""^\W*(?:(?:(?:i['’]?m|i\s+am)\s+(?:very\s+|so\s+|really\s+)?(?:sorry|afraid)
      |(?:i\s+)?(?:do\s+)?apologi[sz]e|my\s+apologies)\b.{0,60}?)?
    (?:but\s+|unfortunately,?\s+|however,?\s+|as\s+an?\s+(?:ai|language)\b.{0,60}?)*
    (?:i|we)(?:\s+(?:really|simply|just))?\s*
    (?:(?:can['’]?t|cannot|can\s+not|won['’]?t|will\s+not)
      (?!\s+(?:wait|imagine|stress|overstate|believe|promise|say\b|tell\s+(?:which|whether|for)))|am\s+(?:not\s+able|unable)|['’]m\s+(?:not\s+able|unable)
      |(?:must|have\s+to)\s+(?:decline|refuse)|decline|refuse|do\s+not\s+feel\s+comfortable|['’]m\s+not\s+comfortable)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_REFUSAL_ABROAD = re.compile(
    r"""^\W*(?:
      (?:lo\s+siento|lamentablemente|lamento|perd[oó]n|disculp[ae])\b.{0,60}?\bno\s+(?:puedo|podemos|me\s+es)
      |no\s+(?:puedo|podemos)\s+(?:ayudar|proporcionar|cumplir|asistir|responder)
      |(?:(?:je\s+suis\s+)?d[ée]sol[ée]e?|malheureusement|je\s+regrette)\b.{0,60}?\bje\s+ne\s+(?:peux|puis|suis)\s+pas
      |je\s+ne\s+(?:peux|suis)\s+pas\s+(?:vous\s+|t['’])?(?:aider|en\s+mesure|répondre)
      |(?:(?:es\s+)?tut\s+mir\s+(?:sehr\s+)?leid|leider|entschuldigung|bedaure)\b.{0,60}?
        \b(?:kann\s+ich|ich\s+kann|darf\s+ich)\b.{0,60}?\bnicht\b
      |(?:desculpe|sinto\s+muito|infelizmente|lamento)\b.{0,60}?\bn[ãa]o\s+(?:posso|podemos)
      |(?:mi\s+dispiace|purtroppo|spiacente)\b.{0,60}?\bnon\s+(?:posso|possiamo)
      |(?:извините|простите|к\s+сожалению)\b.{0,60}?\bне\s+(?:могу|можем)
      |(?:很?抱歉|对不起|對不起|很遗憾).{0,12}?(?:无法|無法|不能)
      |(?:申し訳|すみません|ごめんなさい).{0,40}?(?:できません|できかねます)
    )""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_SORRY = re.compile(
    r"^\W*(?:i['’]?m|i\s+am)\s+sorry\W*(?:but\b.*)?$|^\W*sorry,?\s+(?:but\s+)?(?:i|no)\b", re.IGNORECASE
)
_NEGATION = re.compile(
    r"^\W*(?:no|nope|nay|not\s+(?:quite|really|exactly|at\s+all|true|correct)|incorrect|false|wrong|untrue|never"
    r"|(?:that|this|it)(?:['’]s|\s+is)\s+(?:not|in\s*correct|false|wrong|untrue|a\s+(?:common\s+)?(?:myth|misconception))"
    r"|actually,?\s+(?:no|that|this))\b",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\b(?:did\s*n['’]t|did\s+not|does\s*n['’]t|does\s+not|was\s*n['’]t|was\s+not|were\s+not|is\s*n['’]t|is\s+not"
    r"|are\s+not|are\s*n['’]t|has\s+never|have\s+never|had\s+never|never\s+\w+ed|there\s+(?:is|was)\s+no(?:thing)?"
    r"|no\s+(?:such|record|evidence)|misconception|mistaken|in\s*accurate|incorrect|false\s+premise|contrary\s+to"
    r"|not\s+(?:correct|true|accurate))\b",
    re.IGNORECASE,
)
_TOOL_CALL = re.compile(
    r"<\|?/?(?:tool_?calls?|function_?calls?|invoke|python_tag|tool_code)\b|\[TOOL_CALLS?\]|```tool_(?:code|call)"
    r"|\"(?:name|function|tool)\"\s*:\s*\"[\w.\-]+\"\s*,\s*\"(?:arguments|parameters|input|args)\"\s*:",
    re.IGNORECASE,
)
_SAID = r"(?:said|whispered|cried|replied|asked|shouted)"
_STORY_MARKS: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), weight)
    for pattern, weight in (
        (r"\bonce upon a time\b", 2),
        (
            r"\b(?:es war einmal|[ée]rase una vez|hab[ií]a una vez|il était une fois|era uma vez"
            r"|c['’]era una volta|жил[аи]?[- ]был\w*)\b|很久很久以前|むかしむかし",
            2,
        ),
        (r"\blong ago\b", 1),
        (r"\bone (?:day|night|morning|evening)\b", 1),
        (r"\bhappily ever after\b|\blived happily\b", 1),
        (r"\bthere (?:once )?(?:was|lived) an? \w+", 1),
        (r"\bin a (?:small|distant|quiet|faraway|far-off|little) (?:village|land|kingdom|town|city)\b", 1),
        (r"\bthe end\.?\s*$", 1),
        (r"^\W*(?:chapter|prologue)\b", 1),
        (rf"[\"“][^\"“”]{{2,300}}[\"”],? (?:\w+ )?{_SAID}\b|\b{_SAID},? [\"“]", 1),
    )
)
_ENGLISH = re.compile(
    r"(?:an?|and|are|as|at|be|because|but|by|can|could|did|do|does|for|from|ha[sd]|have|he|her|his|how|i|if|in|is"
    r"|its?|me|my|of|on|or|our|she|should|so|than|that|the|their|them|there|they|this|to|was|we|were|what|when"
    r"|where|which|who|why|will|with|would|your?)",
    re.IGNORECASE,
)
"""Function words."""
_NO_FULL_STOP = re.compile(r"[\u0e00-\u0eff]")
"""Thai and Lao, which put no mark at the end of a sentence."""
_BULLET = re.compile(r"^\s*(?:[-*•–]|\d{1,3}[.)])\s+\S")
_LETTER = re.compile(r"[^\W_]")
_WORD = re.compile(r"\w+(?:['’\-]\w+)*")


def contains_code(text: str, lines: int = 2) -> bool:
    """Say whether there is a fenced block, or at least ``lines`` lines that read as source code."""
    if _FENCE.search(text):
        return True
    return sum(1 for line in text.splitlines() if _CODE_LINE.match(line[:_LONGEST_LINE])) >= lines


def is_refusal(text: str) -> bool:
    """Say whether the text opens by declining: "I'm sorry, but I can't …", "I cannot …", "I must decline".

    English foremost; of nine other languages the stock phrases.
    """
    opening = text.strip()[:300]
    return any(form.match(opening) for form in (_REFUSAL, _SORRY, _REFUSAL_ABROAD))


def starts_with_negation(text: str) -> bool:
    """Say whether the first words negate: "No", "That is not …", "Incorrect", "Actually, no"."""
    return bool(_NEGATION.match(text))


def is_rebuttal(text: str) -> bool:
    """Say whether the first sentence rejects what was presupposed, by a negation or a denial."""
    first = re.split(r"(?<=[.!?])\s", text.strip(), maxsplit=1)[0]
    return starts_with_negation(text) or bool(_DENIAL.search(first))


def word_count(text: str, min: int = 0, max: int | None = None) -> bool:
    """Say whether the number of words lies in [min, max]."""
    n = sum(1 for _ in _WORD.finditer(text))
    return n >= min and (max is None or n <= max)


def tool_call(text: str) -> bool:
    """Say whether the text calls a tool: a tool-call tag, or JSON with a name and arguments."""
    return bool(_TOOL_CALL.search(text))


def is_story(text: str) -> bool:
    """Say whether the text tells a story: two marks of narration, or the fairy-tale opening."""
    return sum(weight for pattern, weight in _STORY_MARKS if pattern.search(text)) >= 2


def is_list(text: str, items: int = 2) -> bool:
    """Say whether at least ``items`` lines are bullets or numbered, and they are most of the lines."""
    rows = [line for line in text.splitlines() if line.strip()]
    bullets = sum(1 for row in rows if _BULLET.match(row))
    return bullets >= items and 2 * bullets > len(rows)


def is_english(text: str, share: float = 0.2) -> bool:
    """Say whether at least ``share`` of the words are function words of English."""
    words = _WORD.findall(text[:5000])
    return bool(words) and sum(bool(_ENGLISH.fullmatch(word)) for word in words) >= share * len(words)


def is_cut_off(text: str, words: int = 8) -> bool:
    """Say whether a text of at least ``words`` words breaks off: its last line ends on a letter or a comma.

    A heading, a list and a table may end so, and so do Thai and Lao.
    """
    lines = text.rstrip().splitlines()
    if not lines or _NO_FULL_STOP.search(lines[-1]) or _BULLET.match(lines[-1]):
        return False
    last = lines[-1].strip()
    if last.startswith(("#", "|")) or not word_count(text, min=words):
        return False
    return unicodedata.category(last[-1])[0] in "LM" or last[-1] in ",،、，፣՝"


def is_json(text: str) -> bool:
    """Say whether the whole text is one JSON object or list."""
    try:
        return isinstance(json.loads(text), (dict, list))
    except ValueError:
        return False


@lru_cache(maxsize=1024)
def _compiled(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE if ignore_case else 0)


def regex(text: str, pattern: str, ignore_case: bool = True) -> bool:
    """Say whether ``pattern`` occurs anywhere."""
    return bool(_compiled(pattern, ignore_case).search(text))


def contains(text: str, any: Sequence[str]) -> bool:
    """Say whether one of the phrases occurs, whatever its case."""
    folded = text.casefold()
    return _one_of(any, lambda phrase: phrase.casefold() in folded)


def starts_with(text: str, any: Sequence[str]) -> bool:
    """Say whether the text begins with one of the phrases; case and marks before it do not count.

    A phrase of marks alone, like three backticks, is compared as it is.
    """
    folded = _bare(text)

    def opens(phrase: str) -> bool:
        bare = re.escape(_bare(phrase))
        return bool(re.match(rf"{bare}\b", folded)) if bare else text.lstrip().startswith(phrase)

    return _one_of(any, opens)


def ends_with(text: str, any: Sequence[str]) -> bool:
    """Say whether the text ends with one of the phrases; case and marks after it do not count.

    A phrase of marks alone, like three backticks, is compared as it is.
    """
    folded = _bare(text)

    def closes(phrase: str) -> bool:
        bare = re.escape(_bare(phrase))
        return bool(re.search(rf"\b{bare}\Z", folded)) if bare else text.rstrip().endswith(phrase)

    return _one_of(any, closes)


def _bare(text: str) -> str:
    """Fold case and drop what is neither letter nor digit at both ends."""
    first, last = _LETTER.search(text), _LETTER.search(text[::-1])
    return text[first.start() : len(text) - last.start()].casefold() if first and last else ""


def _one_of(phrases: Sequence[str], holds: Callable[[str], bool]) -> bool:
    return next((True for phrase in phrases if holds(phrase)), False)


CHECKS: dict[str, Callable[..., bool]] = {
    check.__name__: check
    for check in (
        contains, contains_code, ends_with, is_cut_off, is_english, is_json, is_list, is_rebuttal,
        is_refusal, is_story, regex, starts_with, starts_with_negation, tool_call, word_count,
    )
}  # fmt: skip
"""The checks a rubric may name."""
