"""The Python snippet of the provider's page; only the base URL is ours, and the film is shorter."""

import os
from pathlib import Path

import pytest
from replicate.client import Client
from replicate.exceptions import ReplicateError
from replicate.helpers import FileOutput

replicate = Client(api_token=os.environ["REPLICATE_API_TOKEN"], base_url=os.environ["SANDBOX"])
output = replicate.run(
    "bytedance/seedance-2.0",
    input={
        "aspect_ratio": "16:9",
        "duration": 4,
        "generate_audio": True,
        "prompt": "按 Image 1 的故事版生成视频",
        "reference_audios": [],
        "reference_images": ["https://replicate.delivery/pbxt/storyboard/sheet.jpeg"],
        "reference_videos": [],
        "resolution": "480p",
        "seed": 99,
    },
)
assert isinstance(output, FileOutput)
assert output.url.startswith("https://127.0.0.1:")
film = Path("film-python.mp4")
film.write_bytes(output.read())
assert film.read_bytes()[4:8] == b"ftyp"

masked = replicate.run(
    "bytedance/sa2va-4b-image:ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411",
    input={"image": "https://replicate.delivery/pbxt/snowboarder.webp", "instruction": "segment the snowboarder"},
)
assert isinstance(masked, dict)
assert masked["img"].read()[1:4] == b"PNG"

with pytest.raises(ReplicateError) as refused:
    replicate.run("bytedance/seedance-2.0", input={})
assert refused.value.status == 422
assert refused.value.detail == "- input: prompt is required\n"

model = replicate.models.get("bytedance/sa2va-4b-image")
assert model.latest_version is not None
assert "image" in model.latest_version.openapi_schema["components"]["schemas"]["Input"]["properties"]
events = [event.event.value for event in replicate.stream("bytedance/seedance-2.0", input={"prompt": "a storm"})]
assert events == ["output", "done"], events
