"""The command `mtsearch run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mtsearch.cli import options
from mtsearch.cli.console import outcome_lines, say, tolerate_closed_stderr
from mtsearch.text import shell_command

if TYPE_CHECKING:
    from mtsearch.executors import Workers
    from mtsearch.search.results import StudyResults
    from mtsearch.study_file.definition import StudyDefinition


@click.command()
@options.definition
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of trials to add. Interrupted trials do not count.  [default: 50]",
)
@click.option(
    "--until",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of trials that the study shall have in all, in place of --trials.",
)
@click.option("--timeout", type=options.Seconds(), metavar="SECONDS", help="Begin no further trial after this time.")
@click.option("--patience", type=click.IntRange(min=1), metavar="N",
              help="End when N trials in a row have not improved the front (its hypervolume).")  # fmt: skip
@click.option("--study", "name", metavar="NAME", help="Name of the study.  [default: the name in the definition]")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), metavar="N", help="Seed of the study's random numbers.")
@click.option(
    "--sampler", metavar="KIND", help="Method that proposes configurations: tpe, nsga2, nsga3, gp, qmc or random."
)
@click.option("--workers", type=options.CountOrAuto(), metavar="N|auto",
              help="Number of trials that train at the same time. Several are faster; only one proposes the same "
              "configurations each time. auto: one per GPU, else one per core.  [default: 1; on Ray auto]")  # fmt: skip
@click.option("--ray", is_flag=False, flag_value="local", metavar="[ADDRESS]",
              help="Train on a Ray cluster: auto, HOST:PORT, or without an address a new one here.")  # fmt: skip
@click.option(
    "--cpus-per-worker", type=float, default=1, metavar="C", help="Cores of each worker on Ray.  [default: 1]"
)
@click.option("--gpus-per-worker", type=float, default=0, metavar="G",
              help="GPUs of each worker on Ray; 0.5 lets two share one.  [default: 0]")  # fmt: skip
@click.option("--warm-start", metavar="STUDY", help="Run the front of this study of the storage first.")
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
    workers: Workers | None,
    ray: str | None,
    cpus_per_worker: float,
    gpus_per_worker: float,
    warm_start: str | None,
    overrides: tuple[str, ...],
    storage: str | None,
) -> None:
    """Run trials of the study that DEFINITION describes, and show its front.

    DEFINITION is the path of a study file (TOML) or the name of a shipped study.  [default: ml-100k]

    If the storage has the study already, the command goes on with it. `--study NAME` without DEFINITION goes on with
    a stored study, from any machine that reaches the storage. Ctrl-C ends the running trial and keeps all finished
    ones.
    """
    if trials is not None and until is not None:
        raise click.UsageError("--trials and --until cannot be used together; give one of them")
    options.show_messages()
    values = {"name": name, "seed": seed, "sampler.kind": sampler}
    loaded = None if definition or name is None else options.stored_definition(name, storage, overrides, values)
    # `--study NAME` alone goes on with a stored study, or begins a new one from the shipped default.
    is_new = loaded is None and definition is None and name is not None
    loaded = loaded or options.load_definition(definition, overrides, values)

    from mtsearch import api
    from mtsearch.cli.console import TrialProgress

    place = api.storage_name(storage)
    say(f"study {loaded.study.name} in {place}")
    if is_new:
        say(f"the storage has no study of this name; a new one begins with the definition {api.default_definition()}")
    with TrialProgress([loaded.metrics[key] for key in loaded.study.objectives]) as progress:
        results = api.run(
            loaded,
            trials,
            until=until,
            timeout=timeout,
            patience=patience,
            workers=workers,
            ray=ray,
            cpus_per_worker=cpus_per_worker,
            gpus_per_worker=gpus_per_worker,
            warm_start=warm_start,
            storage=storage,
            on_trial=progress.add_trial,
            begun=progress.start,
        )
    with tolerate_closed_stderr():
        print_summary(results, loaded, place, storage)
    if results.interrupted:
        # The command that finishes the run is shown only if trials are left.
        more = results.counting < progress.until
        again = shell_command("run", results.name, storage and place, "--until", str(progress.until))
        say("interrupted; what was finished is kept" + (f"; to go on: {again}" if more else ""))
        raise SystemExit(130)


def print_summary(results: StudyResults, definition: StudyDefinition, place: str, storage: str | None) -> None:
    """Print the front with the baselines, the location of the storage, and the next commands on stderr.

    Args:
        results: the study's results.
        definition: the study's definition.
        place: the storage's location, for people to read.
        storage: the storage as the user named it; None if the user named none.
    """
    from rich.console import Console

    from mtsearch.report.tables import front_table, published_table, verdict

    console = Console(stderr=True)
    console.print(front_table(results))
    if definition.published:
        console.print(published_table(results, definition))
    click.echo(verdict(results), err=True)
    for line in outcome_lines(results):
        click.echo(line, err=True)
    if results.stopped:
        click.echo(f"stopped early: {results.stopped}", err=True)
    click.echo(f"stored in {place}", err=True)
    click.echo(_next_line(results.name, storage), err=True)


def _next_line(study: str, storage: str | None) -> str:
    """Return a line with the commands that show the study, to be typed as they are."""
    from mtsearch import api

    shown = storage and api.mask_storage(storage)
    return f"next: {shell_command('front', study, shown)} · {shell_command('plot', study, shown)}"
