from undertow.text import one_line, safe_text


def test_terminal_controls_become_visible_escapes():
    shown = safe_text("\x1b[31mred\x07 \u202eevil\u200b \x9b2J \U000e0041\ud800")
    assert shown == "\\x1b[31mred\\x07 \\u202eevil\\u200b \\x9b2J \\U000e0041\\ud800"


def test_ordinary_text_of_any_language_is_untouched():
    for text in ("naïve café\nzwei Zeilen", "日本語 – ≥ 5 ×", "العربية עברית", "emoji 🙂"):
        assert safe_text(text) == text


def test_one_line_is_cut_and_flat():
    assert one_line("a\n b\tc", 10) == "a b c"
    assert one_line("word " * 40, 20).endswith("…")
    assert len(one_line("word " * 40, 20)) <= 20
