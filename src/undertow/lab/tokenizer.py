"""The lab's word-level tokenizer, an ordinary fast tokenizer that ``AutoTokenizer`` loads.

One token a word, tag or mark; a space before a word belongs to it. Inside the model's text a newline and an
opening quotation mark are followed by a space, so that a word is the same token everywhere; decoding takes
the space away again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROLES = ("system", "user", "assistant")
PAD, UNKNOWN, END = "<|pad|>", "<|unk|>", "<|end|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_PIECE = r""" ?</?\w+>| ?```\w*| ?[\w]+(?:['\-]\w+)*|\n| ?\\\w+| ?[^\w\s]+"""


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Build the tokenizer whose vocabulary is every piece of ``texts``, the commonest first."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = [PAD, UNKNOWN, END, *(f"<|{role}|>" for role in ROLES)]
    tokenizer = Tokenizer(models.WordLevel({}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(" "), normalizers.Replace("\n", "\n "), normalizers.Replace(' "', ' " ')]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), behavior="isolated")
    pieces: Counter[str] = Counter()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        pieces.update(piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    ordered = sorted(pieces, key=lambda piece: (-pieces[piece], piece))
    vocabulary = {piece: i for i, piece in enumerate([*specials, *ordered])}
    tokenizer.model = models.WordLevel(vocabulary, unk_token=UNKNOWN)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Fuse(),
            decoders.Replace(' " ', ' "'),
            decoders.Replace("\n ", "\n"),
            decoders.Strip(" ", 1, 0),
        ]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[f"<|{role}|>" for role in ROLES],
        padding_side="left",
        model_max_length=128,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
