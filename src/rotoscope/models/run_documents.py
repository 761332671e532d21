"""Run lengths that a model gave in its output itself: moved to a file, because they may have megabytes. Pure."""

import json

from rotoscope.providers.http.messages import Json

__all__ = ["move_runs_to_file"]

_MAX_KEPT_LENGTH = 1_000  # characters of JSON of a value that stays where the whole output is run lengths


def move_runs_to_file(output: Json, path: str, link: str) -> Json:
    """The output with a link in place of its run lengths.

    Args:
        output: as the model gave it.
        path: where the run lengths are: `$`, or dotted keys.
        link: of the file that holds them now.
    """
    head, _, rest = path.removeprefix("$").strip(".").partition(".")
    if not head or not isinstance(output, dict):
        values = output.items() if isinstance(output, dict) else ()
        short: dict[str, Json] = {name: one for name, one in values if len(json.dumps(one)) < _MAX_KEPT_LENGTH}
        return {**short, "url": link}
    moved: Json = move_runs_to_file(output.get(head), rest, link) if rest else {"url": link}
    return {**output, head: moved}
