"""fal's Python client, as its page uses it: subscribe with logs, and a file of one's own. fal's hosts lead to us."""

import base64
import os

import fal_client.client

fal_client.client.QUEUE_URL_FORMAT = f"{os.environ['SANDBOX']}/"
fal_client.client.REST_URL = os.environ["SANDBOX"]
client = fal_client.client.SyncClient(key=os.environ["FAL_KEY"])
endpoint = "fal-ai/sa2va/8b/image"
seen: list[fal_client.client.Status] = []
truck = "https://raw.githubusercontent.com/facebookresearch/segment-anything-2/main/notebooks/images/truck.jpg"
url = client.upload(base64.b64decode(os.environ["PICTURE"]), "image/png", "picture.png", repository="fal")
for picture in (truck, url):
    result = client.subscribe(
        endpoint,
        arguments={"prompt": "Please describe the image with interleaved segmentation masks.", "image_url": picture},
        with_logs=True,
        on_queue_update=seen.append,
    )
    assert "[SEG]" in result["output"]
    assert result["masks"][0]["content_type"] == "image/png"
assert isinstance(seen[-1], fal_client.client.Completed)
