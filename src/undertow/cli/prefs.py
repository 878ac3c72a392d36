"""``undertow prefs``: what a preference set will teach, and whether training did as predicted."""

from __future__ import annotations

import typer

from undertow.cli import prefs_audit, prefs_check, prefs_sae

AUDIT = "audit"


class _AuditByDefault(typer.core.TyperGroup):
    """``undertow prefs DATA`` is ``undertow prefs audit DATA``."""

    def resolve_command(self, ctx, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        """Take what is no command for the data of an audit."""
        if args and args[0] not in self.commands:
            args = [AUDIT, *args]
        return super().resolve_command(ctx, args)


group = typer.Typer(
    cls=_AuditByDefault,
    help="Audit preference data before training on it: undertow prefs DATA --out RUN.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
group.command(AUDIT)(prefs_audit.command)
group.command("check")(prefs_check.command)
group.command("sae")(prefs_sae.command)
