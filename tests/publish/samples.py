"""A small dataset as a build leaves it, with real pictures and a licence for each video."""

import io
from pathlib import Path

from msgspec.structs import replace
from PIL import Image

from tests.export.samples import built
from tests.inspect.samples import config, cooking, write

SPOKEN = "Secret words of the transcript."


def picture(number):
    """A JPEG that differs for each number."""
    file = io.BytesIO()
    Image.effect_noise((56, 28), 10 + number % 90).convert("RGB").save(file, "JPEG")
    return file.getvalue()


PICTURES = [picture(number) for number in range(20)]


def dataset(out: Path, licences, options=None) -> Path:
    """A dataset with a video for each licence; each caption holds SPOKEN."""
    videos = []
    for number, licence in enumerate(licences):
        made = built(cooking(f"v{number:02d}", 60.0, shift=number), id=f"v{number:02d}", frames=30)
        captions = [replace(caption, heard=SPOKEN) for caption in made.captions]
        video = replace(made.video, licence=licence, language="en")
        videos.append(replace(made, video=video, captions=tuple(captions)))
    write(out, videos, options or config())
    for each in videos:
        for number, path in enumerate(sorted((out / "frames" / each.video.id).iterdir())):
            path.write_bytes(PICTURES[number % len(PICTURES)])
    return out
