"""The layers: imports point down, nothing goes in circles, no file and no function grows past what one can hold."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "rotoscope"
SANDBOX = SOURCE.parent / "rotoscope_sandbox"
TOP = SOURCE.parents[1]

# Lowest first: a folder is one floor. A module may import from its own floor and from those below.
FLOORS = (
    (
        "__init__",
        "errors",
        "variables",
        "environment",
        "network_environment",
        "settings",
        "data_uris",
        "ownership",
        "key_store",
        "stored_keys",
        "signals",
        "signing",
        "logs",
    ),
    ("workers",),
    ("contracts",),
    ("protocol",),
    ("providers",),
    ("models",),
    ("media",),
    ("store",),
    ("jobs",),
    ("studio",),
    ("server",),
    ("sandbox_process",),
    ("composition",),
    ("cli",),
    ("__main__",),
)
FILE_LINES, BODY_LINES = 400, 60
PURE = ("models", "providers.states", "providers.recent", "providers.polling", "providers.webhooks",
        "providers.dialects", "providers.http.messages", "providers.http.egress",
        "media.sniff", "media.image.masks", "media.image.mask_levels", "media.image.mask_reader",
        "media.image.coco", "media.image.previews", "media.exports")  # fmt: skip
OUTSIDE = {"socket", "httpx", "sqlite3", "sqlalchemy", "subprocess", "http", "urllib.request", "ssl"}


class ParsedModules(Mapping[str, ast.Module]):
    """The modules of a package by their names; each is parsed when it is asked for, so that collecting is quick."""

    def __init__(self, package: Path) -> None:
        self._paths = {}
        for path in sorted(package.rglob("*.py")):
            name = ".".join(path.relative_to(package).with_suffix("").parts)
            self._paths[name.removesuffix(".__init__") or "__init__"] = path
        self._trees: dict[str, ast.Module] = {}

    def __getitem__(self, name: str) -> ast.Module:
        if name not in self._trees:
            self._trees[name] = ast.parse(self._paths[name].read_text(encoding="utf-8"))
        return self._trees[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, name: object) -> bool:
        return name in self._paths


MODULES = ParsedModules(SOURCE)
SANDBOX_MODULES = ParsedModules(SANDBOX)
FILES = sorted((*SOURCE.rglob("*.py"), *SANDBOX.rglob("*.py")))


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in a file, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(name: str) -> set[str]:
    wanted = {found.removeprefix("rotoscope.") for found in imports(MODULES[name]) if found.startswith("rotoscope.")}
    return {found for found in wanted if found in MODULES}


def inside(name: str, layer: str) -> bool:
    return name == layer or name.startswith(layer + ".")


def floor(name: str) -> int:
    for number, layers in enumerate(FLOORS):
        if any(inside(name, layer) for layer in layers):
            return number
    pytest.fail(f"{name} is on no floor: say in FLOORS where it belongs")


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    above = {found for found in own_imports(name) if floor(found) > floor(name)}
    assert not above, f"{name} imports upward: {sorted(above)}"


def test_no_import_goes_in_a_circle() -> None:
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join((*path, name))}"
        if name not in done:
            for found in own_imports(name):
                walk(found, (*path, name))
            done.add(name)

    for name in MODULES:
        walk(name, ())


def stage_of(name: str) -> str:
    """The stage that a module belongs to: `jobs.stages.finish_masks` is a part of `finish`."""
    return name.removeprefix("jobs.stages.").partition("_")[0]


STAGE_MODULES = [name for name in MODULES if name.startswith("jobs.stages.")]


@pytest.mark.parametrize("name", STAGE_MODULES)
def test_no_stage_of_a_job_imports_another(name: str) -> None:
    others = {found for found in own_imports(name) if found in STAGE_MODULES and stage_of(found) != stage_of(name)}
    assert not others, f"what two stages share stands in jobs.context, jobs.transitions or beside them: {others}"


def test_every_stage_has_a_file_of_its_name_with_a_function_of_its_name() -> None:
    stages = ("gather", "prepare", "submit", "reconcile", "watch", "fetch", "finish")
    assert {stage_of(name) for name in STAGE_MODULES} == set(stages)
    for stage in stages:
        body = MODULES[f"jobs.stages.{stage}"].body
        assert stage in {node.name for node in body if isinstance(node, ast.AsyncFunctionDef)}


def is_of(package: str, name: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("name", SANDBOX_MODULES)
def test_the_sandbox_knows_nothing_of_our_side_of_the_wire(name: str) -> None:
    assert not {found for found in imports(SANDBOX_MODULES[name]) if is_of("rotoscope", found)}


def test_rotoscope_meets_the_sandbox_in_one_module() -> None:
    meeting = {
        name for name in MODULES if any(is_of("rotoscope_sandbox", found) for found in imports(MODULES[name]))
    } | {str(path) for path in SOURCE.rglob("*.py") if "rotoscope_sandbox" in path.read_text(encoding="utf-8")}
    assert meeting == {"sandbox_process", str(SOURCE / "sandbox_process.py")}


@pytest.mark.parametrize("path", sorted((TOP / "tests" / "sandbox").rglob("*.py")), ids=lambda path: path.name)
def test_the_tests_of_the_sandbox_need_nothing_of_rotoscope(path: Path) -> None:
    found = imports(ast.parse(path.read_text(encoding="utf-8")))
    assert not {name for name in found if is_of("rotoscope", name)}


# What the studio is made of; `open_studio` puts it together, and nothing above the studio touches it afterwards.
STUDIO_PARTS = frozenset(
    {
        "context",
        "access",
        "build_planner",
        "links",
        "dispatcher",
        "review",
        "retention",
        "quotes",
        "owner",
        "caps",
        "prices",
        "charges",
    }
)

# What those above may use beside the studio's own verbs: it has verbs that take a principal, like them.
STUDIO_FACADES = frozenset({"questions", "uploads"})


def studio_parts_used(tree: ast.AST) -> Iterator[str]:
    """The parts of a studio that are reached through it: `studio.context`, `self._studio.quotes` and the like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in STUDIO_PARTS:
            holder = ast.unparse(node.value)
            if holder.rpartition(".")[2].lstrip("_") == "studio" or holder.endswith("studio()"):
                yield f"{holder}.{node.attr}"


@pytest.mark.parametrize("name", [name for name in MODULES if inside(name, "server") or inside(name, "cli")])
def test_nobody_reaches_through_the_studio_into_its_parts(name: str) -> None:
    assert not list(studio_parts_used(MODULES[name]))


def test_the_parts_of_the_studio_are_those_that_it_has() -> None:
    fields = next(node for node in ast.walk(MODULES["studio.studio"]) if getattr(node, "name", "") == "Studio")
    assert isinstance(fields, ast.ClassDef)
    annotated = {ast.unparse(node.target) for node in fields.body if isinstance(node, ast.AnnAssign)}
    assert annotated == STUDIO_PARTS | STUDIO_FACADES
    reaching = "studio.context.ledger; self._studio.quotes; (await self._lazy_studio.studio()).caps; studio.plan"
    assert len(list(studio_parts_used(ast.parse(f"async def f():\n    {reaching}")))) == 3


LOCAL_ENTRIES = {"server.app", "cli.output"}


def test_the_local_principal_stands_at_two_entries() -> None:
    """Over stdio and at the command line; everybody else is given the principal."""
    named = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value == "local"
    }
    passed = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and any(ast.unparse(one) == "'local'" for one in node.args)
    }
    assert named | passed == LOCAL_ENTRIES


def test_http_leaves_through_one_module_only() -> None:
    importers = {name for name in MODULES if any(found.split(".")[0] == "httpx" for found in imports(MODULES[name]))}
    assert importers == {"providers.http.client"}


@pytest.mark.parametrize("name", [name for name in MODULES if any(inside(name, layer) for layer in PURE)])
def test_a_pure_layer_imports_nothing_that_reaches_outside(name: str) -> None:
    assert not {found for found in imports(MODULES[name]) if found in OUTSIDE or found.split(".")[0] in OUTSIDE}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE.parent)))
def test_a_file_holds_at_most_400_lines_and_a_function_at_most_60(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            last = node.body[-1].end_lineno or 0
            assert last - node.body[0].lineno < BODY_LINES, node.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE.parent)))
def test_a_module_says_what_it_is_and_what_it_offers(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    if path.name == "__main__.py":
        return
    defined = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    public = {found for found in defined if not found.startswith("_")}
    listed: list[set[str]] = [
        set(ast.literal_eval(node.value))
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    offered = set().union(*listed)
    assert public <= offered, f"not in __all__: {sorted(public - offered)}"


def test_the_project_names_no_package_registry_and_leaves_nothing_to_do() -> None:
    texts = [path for folder in ("src", "manifests", "bench", "docs") for path in (TOP / folder).rglob("*")]
    texts += [TOP / name for name in ("README.md", "Makefile", "pyproject.toml", "constraints.txt", ".ci/run")]
    forbidden = ("pypi" + ".org", "pythonhosted" + ".org", "registry.npmjs" + ".org", "TO" + "DO", "FIX" + "ME")
    for path in texts:
        if path.suffix in {".py", ".toml", ".md", ".txt", ""} and path.is_file():
            found = [word for word in forbidden if word in path.read_text(encoding="utf-8")]
            assert not found, f"{path}: {found}"
