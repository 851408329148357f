"""Lets torchvision's wheel be used beside a torch that was built for CPUs alone.

The wheel's compiled part is for CUDA and does not load there. So torchvision would fail on import, because
it describes two operators that nobody declared (and nothing here calls), and would read no pictures: Pillow
does.
With this folder on PYTHONPATH the commands of the trainers run unchanged.
"""

from importlib.util import find_spec

if find_spec("torch") and find_spec("torchvision"):
    import torch

    if torch.version.cuda is None:
        operators = torch.library.Library("torchvision", "DEF")
        operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

        import torchvision.io
        from PIL import Image
        from torchvision.transforms.functional import pil_to_tensor

        def decode_image(path, mode=None, apply_exif_orientation=False):
            return pil_to_tensor(Image.open(path).convert("RGB"))

        torchvision.io.decode_image = decode_image
