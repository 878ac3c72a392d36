from undertow.text import one_line, redact, safe_text


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


def test_secrets_of_the_environment_are_struck_out(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "sk-canary-123456")
    monkeypatch.setenv("SHORT_TOKEN", "ab")
    monkeypatch.setenv("HARMLESS", "plain-value-123")
    assert redact("key sk-canary-123456 ab plain-value-123") == "key *** ab plain-value-123"
