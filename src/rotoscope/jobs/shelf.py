"""Which kept files stand for which job, read and written inside somebody's transaction."""

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.sqlite import insert as insert_or_merge

from rotoscope.jobs.job import Output
from rotoscope.jobs.rows import output_of
from rotoscope.jobs.tables import artifacts, outputs

__all__ = ["outputs_of", "write_output"]

# Worded once: wording a statement costs more than running it.
_OUTPUTS = (
    select(outputs, artifacts.c.content_type, artifacts.c.size, artifacts.c.facts)
    .select_from(outputs.join(artifacts, outputs.c.sha256 == artifacts.c.sha256))
    .where(outputs.c.job_id == bindparam("of"))
    .order_by(outputs.c.role, outputs.c.n)
)
_ARTIFACT, _OUTPUT = insert_or_merge(artifacts), insert_or_merge(outputs)
_KEPT = _ARTIFACT.on_conflict_do_nothing()
_MEASURED = _ARTIFACT.on_conflict_do_update(index_elements=["sha256"], set_={"facts": _ARTIFACT.excluded.facts})
_PLACED = _OUTPUT.on_conflict_do_update(
    index_elements=["job_id", "role", "n"],
    set_={name: _OUTPUT.excluded[name] for name in ("sha256", "source_url", "source_expires_at")},
)


def outputs_of(connection: Connection, job_id: str) -> list[Output]:
    """The files of a job, by role and number."""
    return [output_of(row) for row in connection.execute(_OUTPUTS, {"of": job_id})]


def write_output(connection: Connection, job_id: str, output: Output, now: float) -> None:
    """Write that a kept file is a job's output."""
    kept = output.artifact
    row: dict[str, object] = {"sha256": kept.sha256, "content_type": kept.content_type, "size": kept.size}
    row["facts"] = dict(kept.facts)
    row["created_at"] = now
    # The same content may come first as a raw file and later as a measured one: what is known is kept.
    connection.execute(_MEASURED if kept.facts else _KEPT, row)
    found = {
        "sha256": kept.sha256,
        "source_url": output.source_url,
        "source_expires_at": output.source_expires_at,
    }
    connection.execute(_PLACED, {"job_id": job_id, "role": output.role, "n": output.n, **found})
