"""The program: its commands, its exit codes, and errors as one message instead of a traceback."""

import select
import sys
from typing import NoReturn

import click

from schemas.errors import RendezvousError

COMMANDS = {
    "up": "agents.cli.up:up",
    "run": "agents.cli.run:run",
    "check": "agents.cli.check:check",
    "kafka": "agents.cli.kafka:kafka",
    "topics": "agents.cli.topics:topics",
    "verify": "agents.cli.verify:verify",
    "send": "agents.cli.send:send",
    "ask": "agents.cli.ask:ask",
    "models": "agents.cli.models:models",
    "decisions": "agents.cli.decisions:decisions",
    "explain": "agents.cli.explain:explain",
    "label": "agents.cli.label:label",
    "quality": "agents.cli.quality:quality",
    "label-next": "agents.cli.label_next:label_next",
    "report": "agents.cli.report:report",
    "backtest": "agents.cli.backtest:backtest",
    "simulate": "agents.cli.simulate:simulate",
    "dead-letters": "agents.cli.dead_letters:dead_letters",
    "replay": "agents.cli.replay:replay",
    "verdicts": "agents.cli.verdicts:verdicts",
    "minutes": "agents.cli.minutes:minutes",
    "reference": "agents.cli.reference:reference",
    "fingerprint": "agents.cli.fingerprint:fingerprint",
    "diff": "agents.cli.diff:diff",
    "archive": "agents.cli.archive:archive",
    "forget": "agents.cli.forget:forget",
}

HELP = """Machine-learning models in production on Kafka: every model sees every event, and one explained
decision leaves within its latency budget.

\b
  rendezvous up deploy/flights/flights.toml      bring a pipeline up
  rendezvous ask '{"carrier": "UA", ...}'        one event in, its decision out
  rendezvous decisions --follow                  watch the answers
  rendezvous explain UA1545-2013-07-01           the story of one request
  rendezvous models promote better               a shadow to the front, without a restart
  rendezvous verify                              is anything lost, doubled, late?
  rendezvous replay --since 2h --run june        the past again, behind a fence
  rendezvous verdicts --follow                   what changed, and whose fault is it?
  rendezvous report --live -o now.html           how it goes, as a page that keeps up
  rendezvous diff --training full                production against what a model was trained on

\b
Exit codes: 0 done, 1 failed, 2 wrong use, 3 a check said no, 4 Kafka not reachable (trying again may help),
5 configuration refused (trying again will not), 130 interrupted.

Completion: eval "$(_RENDEZVOUS_COMPLETE=bash_source rendezvous)"
"""


STDOUT = 1


class Lazy(click.Group):
    """Imports a command when it is asked for: `--help` and a typing error answer at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        from importlib import import_module

        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for a typing error."""
        from difflib import get_close_matches

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=Lazy, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rendezvous-kafka", prog_name="rendezvous")
@click.option("--replay", "run", metavar="RUN", help="Mean the pipeline's copy that takes this run's replay.")
@click.pass_context
def program(ctx: click.Context, run: str | None) -> None:
    """Hold the commands."""
    ctx.obj = run


def main() -> None:
    """Run the program and exit."""
    try:
        code = program.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except SystemExit as end:
        # Click makes 1 of any broken pipe, and says nothing. Whoever read our output (head, less) has seen enough.
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        if not _unread(STDOUT):
            raise end.__context__ from None
        sys.exit(0)
    except RendezvousError as error:
        _end(error)
    except Exception as error:
        _end(_of_kafka(error))
    sys.exit(code if isinstance(code, int) else 0)


def _unread(pipe: int) -> bool:
    """Whether nobody reads a pipe any more."""
    poll = select.poll()
    poll.register(pipe, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _end(error: RendezvousError) -> NoReturn:
    sys.stderr.write(f"rendezvous: {error}\n")
    sys.exit(error.exit_code)


def _of_kafka(error: Exception) -> RendezvousError:
    """What a Kafka client raised, in one line; raises again what is none of its errors."""
    from confluent_kafka import KafkaException

    from streams.kafka.clients import explained

    if not isinstance(error, KafkaException):
        raise error
    return explained(error)
