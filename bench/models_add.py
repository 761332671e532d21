"""What `rotoscope models add` makes of the schemas of thousands of public models, without any network of a provider.

It reads the records of the npm package `all-the-public-replicate-models`, which `npm pack` brings into a temporary
folder, or those of a file. Each model becomes a manifest, which is read back from its text and checked, or is refused
with a reason. An error that is neither is counted too, and must not happen. `--smallest` reads the few records below.
"""

import json
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from figures import arguments, headline

from rotoscope.errors import InvalidInput
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.manifest import Manifest
from rotoscope.models.provider import Provider
from rotoscope.models.schemas.documents import parse_model_name, read_document
from rotoscope.models.schemas.drafting import draft_manifest
from rotoscope.models.schemas.tools import DraftRefusal
from rotoscope.models.schemas.writing import write_manifest

PACKAGE = "all-the-public-replicate-models"
FILE = {"type": "string", "format": "uri"}


def record(name: str, inputs: dict[str, Any], output: Any, shown: Any) -> dict[str, Any]:
    """A model as the package has it, with as little as it takes."""
    owner, _, called = name.partition("/")
    schemas = {"Input": {"properties": inputs}, "Output": output}
    version = {"id": "0" * 64, "openapi_schema": {"components": {"schemas": schemas}}}
    example = {"output": shown, "metrics": {"predict_time": 9.9}}
    return {"owner": owner, "name": called, "latest_version": version, "default_example": example}


SMALLEST = [
    record("a/film", {"prompt": {"type": "string"}, "image": FILE}, FILE, "https://example.com/a.mp4"),
    record("a/sam", {"image": FILE, "text_prompt": {"type": "string"}}, {"properties": {"mask": FILE}}, None),
    record(
        "a/picture", {"prompt": {"type": "string"}}, {"type": "array", "items": FILE}, ["https://example.com/a.png"]
    ),
]


def records(most: int) -> list[dict[str, Any]]:
    """The models of the package; the few that stand here where no more are wanted."""
    if most <= len(SMALLEST):
        return SMALLEST[:most]
    with tempfile.TemporaryDirectory() as folder:
        packed = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", folder]
        subprocess.run(packed, check=True, stdout=subprocess.DEVNULL, timeout=600)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as opened:
            file = opened.extractfile("package/models.json")
            assert file is not None
            found: list[dict[str, Any]] = json.load(file)
    return found[:most]


def outcome(model: dict[str, Any], providers: dict[str, Provider]) -> str:
    """What comes of a model: a tool, a reason, or the name of an error that nobody should see."""
    name = parse_model_name(f"replicate:{model['owner']}/{model['name']}")
    try:
        draft = draft_manifest(read_document(name, model), providers, "2026-11-28")
        if isinstance(draft, DraftRefusal):
            return f"refused: {draft.reason}"
        read = Manifest.model_validate(tomllib.loads(write_manifest(draft.manifest, draft.comments)))
        assert read == draft.manifest, "it comes back otherwise than it was written"
    except InvalidInput:
        return "refused: no schema"
    except Exception as error:  # noqa: BLE001 - that there is none is what is measured
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        return f"error: {type(error).__name__}"
    return f"manifest: {draft.manifest.tool}"


def table(outcomes: Sequence[str], seconds: float) -> Iterator[str]:
    """The figures, one a line."""
    counted = Counter(outcomes)
    made = sum(number for what, number in counted.items() if what.startswith("manifest"))
    wrong = sum(number for what, number in counted.items() if what.startswith("error"))
    yield f"models {len(outcomes)}; manifests {made} ({made / len(outcomes):.1%}); errors {wrong} (to hold: 0)"
    yield f"a model takes {1000 * seconds / len(outcomes):.1f} ms"
    for what, number in counted.most_common():
        yield f"{number:6d}  {number / len(outcomes):6.1%}  {what}"


def main() -> int:
    """Measure, and print."""
    sizes = arguments(__doc__, models=(100_000, 3, "models that are read at most"))
    models = records(int(sizes["models"]))
    providers = dict(load_catalog(manifest_folder()).providers)
    begun = time.perf_counter()
    outcomes = [outcome(model, providers) for model in models]
    print(headline("manifests from public schemas"))
    print(*table(outcomes, time.perf_counter() - begun), sep="\n")
    return 1 if any(one.startswith("error") for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
