"""Every request that names what belongs to somebody: for tests of two principals, over any transport."""

import json
from dataclasses import dataclass
from typing import Any

from calls import BOX

__all__ = ["LISTS", "REQUESTS", "Names", "listen", "tool"]


@dataclass(frozen=True)
class Names:
    """What a request can name of a job: its id, and the hash and the path of a file that it has made."""

    job: str
    sha256: str
    path: str

    def fill(self, value: Any) -> Any:
        """A value with these names in place of `{job}`, `{sha256}` and `{path}`."""
        text = json.dumps(value)
        for name, given in vars(self).items():
            text = text.replace(f"{{{name}}}", given)
        return json.loads(text)

    def hide(self, reply: dict[str, Any]) -> str:
        """A reply as text, with `{job}`, `{sha256}` and `{path}` in place of these names."""
        text = json.dumps({name: value for name, value in reply.items() if name != "id"}, sort_keys=True)
        for name, given in (("path", self.path), ("job", self.job), ("sha256", self.sha256)):
            text = text.replace(given, f"{{{name}}}")
        return text


def tool(name: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": arguments}


def listen(**notifications: Any) -> tuple[str, dict[str, Any]]:
    return "subscriptions/listen", {"notifications": notifications}


# Every request that names a job or a file, by kind: its method and its parameters.
REQUESTS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "tools": [
        tool("get_job", job_id="{job}"),
        tool("get_job", job_id="job://{job}"),
        tool("cancel_job", job_id="{job}"),
        tool("view_media", uri="job://{job}"),
        tool("view_media", uri="job://{job}/overlay"),
        tool("view_media", uri="artifact://{sha256}"),
        tool("view_media", uri="{path}"),
    ],
    "inputs": [
        tool("segment_image", image="job://{job}", box=BOX, dry_run=True),
        tool("segment_image", image="job://{job}/masks/0", box=BOX, dry_run=True),
        tool("segment_image", image="artifact://{sha256}", box=BOX, dry_run=True),
        tool("segment_image", image="{path}", box=BOX, dry_run=True),
        tool("segment_image", image="artifact://{sha256}", box=BOX),
        tool("edit_video_with_mask", prompt="a cat", video="job://{job}", mask="artifact://{sha256}"),
    ],
    "resources": [
        ("resources/read", {"uri": "job://{job}"}),
        ("resources/read", {"uri": "artifact://{sha256}"}),
    ],
    "tasks": [
        ("tasks/get", {"taskId": "{job}"}),
        ("tasks/cancel", {"taskId": "{job}"}),
        ("tasks/update", {"taskId": "{job}", "inputResponses": {}}),
    ],
}
# Requests that name nothing: a principal who has nothing gets the answer of one who is alone.
LISTS: dict[str, tuple[str, dict[str, Any]]] = {
    "list_jobs": tool("list_jobs"),
    "completion of a job link": (
        "completion/complete",
        {"ref": {"type": "ref/resource", "uri": "job://{job_id}"}, "argument": {"name": "job_id", "value": ""}},
    ),
    "completion of a prompt": (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "photo_to_coco"}, "argument": {"name": "image", "value": ""}},
    ),
}
