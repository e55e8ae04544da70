"""What to type next, as it can be pasted into a shell."""

import shlex


def command(verb: str, study: str, storage: str | None = None, *rest: str) -> str:
    """`mtsearch VERB --study STUDY`, with the storage where it was named.

    Args:
        verb: of mtsearch.
        study: its name.
        storage: as people may see it: a path, or an URL without its secrets; None: the default one.
        rest: further arguments.
    """
    options = ["--study", study, *(["--storage", storage] if storage else []), *rest]
    return shlex.join(["mtsearch", verb, *options])
