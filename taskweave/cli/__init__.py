"""The command line: thin verbs over stores and executors.

Conventions of every command:
  --store URL      or TASKWEAVE_STORE, else the store of --app, else sqlite:///taskweave.db
  --json           on every listing: one JSON object with stable field names (added to, never renamed)
  --dry-run        on everything destructive: says what would change and changes nothing
  --yes            instead of the question that destructive commands ask; without a terminal it is required
  exit code        0 done, 1 refused or failed, 2 wrong usage, 130 interrupted; an error is one line on stderr

Each command's module is imported when the command is used: `taskweave --help` imports click and nothing else.
"""

from __future__ import annotations

import errno
import importlib
from difflib import get_close_matches
from typing import IO, Any, Final

import click

from taskweave.exceptions import TaskweaveError

COMMANDS: Final = {
    "demo": ("taskweave.cli.demo:demo", "Hash, parse and compress a source tree: the whole engine at work."),
    "init": ("taskweave.cli.init:init", "Write a project that runs."),
    "dev": ("taskweave.cli.dev:dev", "Run an app's worker and restart it when a file changes."),
    "worker": ("taskweave.cli.worker:worker", "Run an app's jobs until told to stop."),
    "job": ("taskweave.cli.jobs:job", "Look at jobs, and cancel, retry or delete them."),
    "queue": ("taskweave.cli.queues:queue", "List, pause, resume and purge queues."),
    "dlq": ("taskweave.cli.dead:dlq", "The dead letters: list them, run them again."),
    "store": ("taskweave.cli.stores:store", "Create, migrate, check and copy a store; print its SQL."),
    "backup": ("taskweave.cli.moving:backup", "Write every job of a store into a file."),
    "restore": ("taskweave.cli.moving:restore", "Store every job of a backup."),
    "doctor": ("taskweave.cli.doctor:doctor", "Find what is wrong with this machine, store and queues."),
    "conformance": ("taskweave.cli.conformance:conformance", "Ask a store whether it keeps every promise."),
    "bench": ("taskweave.cli.bench:bench", "Measure this machine: jobs per second beside a bare loop."),
    "explain": ("taskweave.cli.explain:explain", "Say what an error code means and what to do."),
}


class Refusal(click.ClickException):
    """A TaskweaveError as the command line shows it: one line, exit code 1, no traceback."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.format_message()}", file=file, err=file is None)


def refusal(error: BaseException) -> Refusal | None:
    """The one line for this error, or None where it is a bug and deserves its traceback."""
    from taskweave.observe.logging import escaped

    if isinstance(error, BaseExceptionGroup):
        found = [refusal(child) for child in error.exceptions]  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType,reportUnknownArgumentType] - a bare group has no element type
        return found[0] if all(found) else None
    if not isinstance(error, TaskweaveError):
        return None
    return Refusal(escaped(" ".join([str(error), *getattr(error, "__notes__", ())]).strip()))


class Commands(click.Group):
    """A group that imports a command when it is used, suggests the nearest name, and shows errors as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (TaskweaveError, BaseExceptionGroup) as error:
            shown = refusal(error)
            if shown is None:
                raise
            raise shown from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except OSError as error:
            if error.errno != errno.ENOSPC or error.filename is not None:
                raise  # click knows what a closed pipe means; the rest would be a bug
            raise Refusal("the output cannot be written: there is no room where it goes") from error


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="taskweave", message="%(prog)s %(version)s")
def root() -> None:
    """Background jobs for Python whose behaviour can be proved; asyncio and trio."""
