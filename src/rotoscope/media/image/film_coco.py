"""The masks of a clip in the format of the COCO data set: an image for each frame, an annotation for each object.

`segmentation` is the compressed RLE. `track_id` says which annotations are of one object, and `frame` which frame of
the clip an image is. Annotations are held as text, as in `media.image.coco`.
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rotoscope.media.image.coco import encode_rle
from rotoscope.media.image.masks import bounding_box

if TYPE_CHECKING:
    from rotoscope.media.image.masks import Mask

__all__ = ["FilmCocoDocument"]


@dataclass(slots=True)
class FilmCocoDocument:
    """A COCO document of one clip, frame by frame.

    Attributes:
        file_name: of the clip, without folders.
        label: of the object, the only category.
        width: of the clip in pixels.
        height: of the clip in pixels.
        frame_rate: frames a second.
    """

    file_name: str
    label: str
    width: int
    height: int
    frame_rate: float
    _images: list[str] = field(default_factory=list)
    _annotations: list[str] = field(default_factory=list)

    def add_frame(self, number: int) -> None:
        """Add a frame of the clip, by its number from 0 on."""
        stem = self.file_name.rpartition(".")[0] or self.file_name
        image = {"id": number + 1, "file_name": f"{stem}-{number:06}.jpg", "width": self.width, "height": self.height}
        self._images.append(json.dumps({**image, "frame": number}, ensure_ascii=False))

    def add_mask(self, number: int, track_id: int, mask: "Mask") -> None:
        """Add an object in a frame; one that is not there has no annotation."""
        import numpy as np

        box = bounding_box(mask)
        if box is None:
            return
        annotation = {
            "id": len(self._annotations) + 1,
            "image_id": number + 1,
            "category_id": 1,
            "track_id": track_id,
            "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
            "area": int(np.count_nonzero(mask)),
            "iscrowd": 0,
            "segmentation": {"size": [int(side) for side in mask.shape], "counts": encode_rle(mask)},
        }
        self._annotations.append(json.dumps(annotation, separators=(",", ":")))

    def content(self) -> bytes:
        """The document as JSON in UTF-8."""
        head = {
            "info": {"description": "Masks of a clip by rotoscope.", "version": "1.0"},
            "videos": [{"file_name": self.file_name, "frame_rate": self.frame_rate, "frames": len(self._images)}],
            "categories": [{"id": 1, "name": self.label}],
        }
        begun = json.dumps(head, ensure_ascii=False)[:-1]
        images, annotations = ", ".join(self._images), ", ".join(self._annotations)
        return f'{begun}, "images": [{images}], "annotations": [{annotations}]}}'.encode()
