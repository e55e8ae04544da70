"""`mtsearch run`."""

from typing import TYPE_CHECKING

import click

from mtsearch.cli import options
from mtsearch.cli.saying import readers_may_leave, say
from mtsearch.definition import DEFAULT

if TYPE_CHECKING:
    from mtsearch.search.seats import Workers


@click.command()
@click.argument("definition", required=False)
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="Counting trials to add.  [default: 50]")
@click.option("--until", type=click.IntRange(min=1), metavar="N", help="Counting trials to have in all.")
@click.option("--timeout", type=options.Seconds(), metavar="SECONDS", help="Begin no trial after.")
@click.option("--patience", type=click.IntRange(min=1), metavar="N",
              help="End when N trials in a row have not moved the hypervolume.")  # fmt: skip
@click.option("--study", "name", metavar="NAME", help="Name of the study.  [default: the definition's]")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), metavar="N", help="Seed of the study.")
@click.option("--sampler", metavar="KIND", help="tpe, nsga2, nsga3, gp, qmc or random.")
@click.option("--workers", type=options.CountOrAuto(), default=1, show_default=True, metavar="N|auto",
              help="Processes. Several are faster; one alone proposes the same configurations each time. "
              "auto: one per GPU, else per core.")  # fmt: skip
@click.option("--warm-start", metavar="STUDY", help="Begin with the front of another study in the storage.")
@options.overrides
@options.storage
def command(
    definition: str | None,
    trials: int | None,
    until: int | None,
    timeout: float | None,
    patience: int | None,
    name: str | None,
    seed: int | None,
    sampler: str | None,
    workers: "Workers",
    warm_start: str | None,
    overrides: tuple[str, ...],
    storage: str | None,
) -> None:
    """Run trials of DEFINITION: the path of a TOML file or the name of a shipped one.  [default: ml-100k]

    Without it, --study NAME of a study in the storage goes on with that one, from any machine that reaches the storage.

    Goes on with the study where it exists. Ctrl-C ends the running trial and keeps what was finished.
    """
    if trials is not None and until is not None:
        raise click.UsageError("--trials and --until exclude each other")
    options.show_messages()
    values = {"name": name, "seed": seed, "sampler.kind": sampler}
    loaded = None if definition or name is None else options.stored_definition(name, storage, overrides, values)
    begins_anew = loaded is None and definition is None and name is not None
    loaded = loaded or options.load_definition(definition or DEFAULT, overrides, values)

    from mtsearch import api
    from mtsearch.cli.progress import Progress
    from mtsearch.cli.summary import print_summary
    from mtsearch.report.commands import command as command_for
    from mtsearch.search.storage import masked, resolve_url

    place = masked(resolve_url(storage))
    say(f"study {loaded.study.name} in {place}")
    if begins_anew:
        say(f"there is none of that name yet: it begins from {DEFAULT}")
    with Progress(loaded.study.objectives) as progress:
        record = api.run(
            loaded,
            trials,
            until=until,
            timeout=timeout,
            patience=patience,
            workers=workers,
            warm_start=warm_start,
            storage=storage,
            on_trial=progress.trial_ended,
            begun=progress.begun,
        )
    with readers_may_leave():
        print_summary(record, loaded, place, storage)
    if record.interrupted:
        more = record.counting < progress.until
        again = command_for("run", record.name, storage and place, "--until", str(progress.until))
        say("interrupted; what was finished is kept" + (f"; to go on: {again}" if more else ""))
        raise SystemExit(130)
