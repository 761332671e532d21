"""Tracking a mask from the first frame through a clip, by what is at hand: a net's features, or flow and colours."""

from rotoscope_sandbox.film.feature_tracking import FeatureTracker
from rotoscope_sandbox.film.flow_tracking import FlowTracker
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pixels import Frame, Mask

__all__ = ["MaskTracker"]


class MaskTracker:
    """Tracks a mask from the first frame through a clip; frames must come in order.

    A net that gives features tells the object from what is around it (`feature_tracking`). Without one, flow and
    colours carry the mask (`flow_tracking`), which a net without features still corrects.

    The same frames give the same masks. What is kept is a few planes, however long the clip is.

    Args:
        frame: the first frame, RGB.
        mask: the object in it, of the same height and width.
        net: the object net, if there is one.
    """

    def __init__(self, frame: Frame, mask: Mask, net: ObjectNet | None = None) -> None:
        self._tracker: FeatureTracker | FlowTracker
        if net is not None and net.has_features and mask.any():
            self._tracker = FeatureTracker(frame, mask, net)
        else:
            self._tracker = FlowTracker(frame, mask, net if mask.any() else None)

    def next_mask(self, frame: Frame) -> Mask:
        """Where the object is in the next frame; empty where it is not to be seen."""
        return self._tracker.next_mask(frame)
