"""`rendezvous kafka`: the local broker, by hand."""

import click

from agents.cli import place


@click.group(short_help="the local broker: start, stop, status")
def kafka() -> None:
    """Start, stop or look at the local Apache Kafka of this folder's project.

    \b
      rendezvous kafka start
      export KAFKA_BOOTSTRAP_SERVERS=$(rendezvous kafka status)
    """


@kafka.command()
def start() -> None:
    """Start it, to stay until `stop`; prints its address."""
    click.echo(place.broker().start(stay=True))


@kafka.command()
def stop() -> None:
    """Stop it; the data stays."""
    if not place.broker().stop():
        click.echo("no local Kafka runs here", err=True)


@kafka.command()
@click.pass_context
def status(ctx: click.Context) -> None:
    """Print its address; exit 3 when it does not run."""
    running = place.broker().running()
    if running is None:
        click.echo("no local Kafka runs here", err=True)
        ctx.exit(3)
    click.echo(running.bootstrap)
    click.echo(f"Apache Kafka {running.version}, pid {running.pid}, data in {place.broker().folder}", err=True)
