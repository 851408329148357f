"""Decoding on an NVIDIA GPU of videos that it decodes to the same pictures as the processor."""

from functools import cache

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_EXACT = {"h264", "hevc", "vp8", "vp9"}
"""Codecs whose pictures are laid down to the bit; the older ones leave decoders room in how they round."""

_ready: list[HWAccel] = []
"""Kept, for what is ready on a GPU goes with the last that refers to it."""


@cache
def accelerator() -> HWAccel | None:
    """The GPU, made ready once for all videos of a process; None where there is none that can be used."""
    if "cuda" not in hwdevices_available():
        return None
    settings = HWAccel("cuda", allow_software_fallback=True, options={"primary_ctx": "1"})
    try:
        _ready.append(settings.create(av.Codec("h264")))
    except (FFmpegError, NotImplementedError):
        return None
    return settings


def gives_the_same(stream: VideoStream, first: VideoFrame | None = None) -> bool:
    """Whether a GPU decodes the stream as the processor does, as far as it and its first picture tell."""
    if first is not None and (first.width, first.height) != (stream.width, stream.height):
        # A GPU does not crop pictures at their left and upper edges.
        return False
    return stream.codec_context.codec.canonical_name in _EXACT
