"""Texts that try to be more than text, and what a page is made of, so that the two can be told apart."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser

PAYLOADS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</textarea></select></option><script>alert(1)</script>",
    "<ScRiPt/x>alert(1)</sCrIpT>",
    "<img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "' onmouseover='alert(1)",
    '" onfocus="alert(1)" autofocus="',
    '" accesskey="x" onclick="alert(1)',
    "` onerror=alert(1)",
    "<svg onload=alert(1)>",
    "<svg><script href='data:,alert(1)'/></svg>",
    "<svg><foreignObject><iframe src=javascript:alert(1)></foreignObject></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src=1 onerror=alert(1)>'>",
    "</text><image href='http://evil.example/x.png'/>",
    "]]><script>alert(1)</script>",
    "<!-- --!><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml-stylesheet href='http://evil.example/x.css'?>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<base href=http://evil.example/>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=data:text/html,x>",
    "<form action=http://evil.example><button formaction=javascript:alert(1)>",
    "<a href=javascript:alert(1)>click</a>",
    "javascript:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "//evil.example/x?a=1&b=2#c",
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png)",
    "http://evil.example/?q=secret",
    "{{ 7 * 191 }}{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "${7*191} #{7*191} <%= 7*191 %>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "<\x00script>alert(1)</script>",
    "\u2028<script>alert(1)</script>\u2029",
    "\u202egnp.exe\u202c \u2066x\u2069",
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "\x1b[2J\x1b[H\x9b31m\x08\x7f[bold red]markup[/]",
    "a\u200bb\ufeffc\u00add",
    "\U000e0041\U000e0042hidden tags",
    "\ud800 lone surrogate",
    "url(javascript:alert(1)); background: url(//evil.example)",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "<style>*{background:url(//evil.example)}</style>",
    "<plaintext>",
    "<details open ontoggle=alert(1)>",
    "<template><script>alert(1)</script></template>",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "-2+3'); DROP TABLE samples; --",
    "../../../../etc/passwd",
]
LONG = "<b>" * 350_000
"""A megabyte."""
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\U000e0000-\U000e0fff]")  # fmt: skip  # noqa: E501
"""What a reader would not see, or would see out of order."""
_ADDRESSES = {"href", "src", "action", "data", "xlink:href", "srcset", "poster", "formaction", "content"}


@dataclass
class Skeleton(HTMLParser):
    """What a page is made of, whatever it says."""

    html: str
    elements: Counter[tuple[str, tuple[str, ...]]] = field(default_factory=Counter)
    """(tag, names of its attributes) → how many; marks of a shortened text are left out."""
    addresses: list[str] = field(default_factory=list)
    """Whatever a browser might load or go to."""
    comments: int = 0

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if dict(attrs).get("class") != "cut":
            self.elements[tag, tuple(name for name, _ in attrs)] += 1
        self.addresses += [value or "" for name, value in attrs if name in _ADDRESSES]

    def handle_comment(self, data: str) -> None:
        self.comments += 1

    __hash__ = None
