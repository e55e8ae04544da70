"""How much a run is asked to do: numbers that are none are refused, and how many trials they come to."""

from numbers import Integral, Real

from mtsearch.definition import StudyDefinition
from mtsearch.errors import DefinitionError
from mtsearch.study_file.mistakes import shown

DEFAULT_TRIALS = 50


def require_counts(**counts: object) -> None:
    """Refuse what is given and is no whole number of one or more.

    Raises:
        DefinitionError: one of them is none.
    """
    for name, count in counts.items():
        if count is not None and (not isinstance(count, Integral) or isinstance(count, bool) or count < 1):
            remedy = "a whole number, one or more" + (", or 'auto'" if name == "workers" else "")
            raise DefinitionError(f"{name} = {shown(count)}", remedy)


def require_seconds(timeout: object) -> None:
    """Refuse a timeout that is given and is no number above 0, as NaN is none.

    Raises:
        DefinitionError: it is none.
    """
    if timeout is not None and (not isinstance(timeout, Real) or isinstance(timeout, bool) or not float(timeout) > 0):
        raise DefinitionError(f"timeout = {shown(timeout)}", "a number of seconds above 0")


def trials_asked_for(definition: StudyDefinition, trials: int | None, until: int | None) -> int | None:
    """How many trials to add; None where `until` says it.

    Raises:
        DefinitionError: both at once, or more than a definition without [space] lists.
    """
    if trials is not None and until is not None:
        raise DefinitionError("both trials and until are given", "give one of them")
    asked = trials if trials is not None else until
    listed = len(definition.trials)
    if not definition.space and asked is not None and asked > listed:
        raise DefinitionError(
            f"{definition.study.name} lists {listed} trials and has no [space] to sample {asked - listed} more from",
            "run it without --trials, or add a [space]",
        )
    if until is not None:
        return None
    return trials or (DEFAULT_TRIALS if definition.space else listed)
